#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "cli/number_options.h"
#include "data/control_tokens.h"
#include "data/rows.h"
#include "rollout/generator.h"

namespace flyover::cli {
namespace {

/// Of a conversation, whatever the model is made for: its cache takes memory from the beginning.
constexpr std::int64_t kMostChatTokens = 8192;

struct GenerateOptions {
  std::string model;
  std::vector<std::string> prompts;
  std::string prompts_file;
  DeviceOptions device;
  float temperature = 0.0f;
  int top_k = 0;
  float top_p = 1.0f;
  std::int64_t max_new_tokens = 256;
  std::uint64_t seed = 0;
  bool chat = false;
  bool json = false;
  bool thinking = false;
  std::string reasoning_effort;
  std::string template_variables;
};

void add_template_options(CLI::App& command, GenerateOptions& options) {
  command.add_flag("--thinking", options.thinking, "The chat template's variable thinking: reason before answering");
  command.add_option("--reasoning-effort", options.reasoning_effort, "Its variable reasoning_effort: high or max");
  command.add_option("--chat-template-kwargs", options.template_variables,
                     "Further variables of the chat template: a JSON object");
}

/// The variables of the template that the command line gives.
data::JsonPointer template_variables(const GenerateOptions& options) {
  base::Json variables = base::Json::object();
  if (!options.template_variables.empty()) {
    variables = base::parse_json(options.template_variables, "--chat-template-kwargs");
    base::require(variables.is_object(), "--chat-template-kwargs: expected a JSON object, found {}",
                  base::json_type_name(variables));
  }
  if (options.thinking) {
    variables["thinking"] = true;
  }
  if (!options.reasoning_effort.empty()) {
    variables["reasoning_effort"] = options.reasoning_effort;
  }
  return std::make_shared<const base::Json>(std::move(variables));
}

void add_sampling_options(CLI::App& command, GenerateOptions& options) {
  add_number(command, "--temperature", options.temperature, recipe::at_least(0), "0 = the most likely token");
  add_number(command, "--top-k", options.top_k, recipe::at_least(0), "Only the k most likely tokens; 0 = all");
  add_number(command, "--top-p", options.top_p, recipe::above_up_to(0, 1),
             "Only the most likely tokens whose probabilities sum up to p; 1 = all");
  add_number(command, "--max-new-tokens", options.max_new_tokens,
             recipe::between(1, static_cast<double>(recipe::kMostTokens)), "Tokens after which an answer is cut off");
  add_number(command, "--seed", options.seed, recipe::at_least(0), "The key of the random numbers");
}

rollout::SamplingOptions sampling_of(const GenerateOptions& options, const LoadedModel& loaded) {
  rollout::SamplingOptions sampling;
  sampling.temperature = options.temperature;
  sampling.top_k = options.top_k;
  sampling.top_p = options.top_p;
  sampling.max_new_tokens = options.max_new_tokens;
  sampling.stop_tokens = loaded.start.stop_tokens;
  sampling.seed = options.seed;
  return sampling;
}

struct Prompt {
  std::string text;
  std::string where;  ///< for messages
};

void require_utf8(const std::string& text, const std::string& where) {
  const std::size_t invalid = base::find_invalid_utf8(text);
  base::require(invalid == std::string::npos, "{}: not valid UTF-8 at byte {}", where, invalid);
}

/// The prompts of the command line, then those of the file.
std::vector<Prompt> read_prompts(const GenerateOptions& options) {
  std::vector<Prompt> prompts;
  for (const std::string& text : options.prompts) {
    prompts.push_back({text, fmt::format("--prompt number {}", prompts.size() + 1)});
    require_utf8(text, prompts.back().where);
  }
  if (!options.prompts_file.empty()) {
    const std::size_t before = prompts.size();
    data::for_each_row(options.prompts_file, [&](const data::DataRow& row) {
      prompts.push_back({base::get_string(row.value, "prompt", row.where), row.where});
      return true;
    });
    base::require(prompts.size() > before, "{}: has no prompts", options.prompts_file);
  }
  base::require(!prompts.empty(), "nothing to generate from: give --prompt TEXT or --prompts FILE.jsonl");
  return prompts;
}

data::Conversation question(const std::string& prompt) {
  data::Conversation conversation;
  conversation.messages.push_back(data::text_message("user", prompt));
  return conversation;
}

/// The tokens of each prompt: a text to continue, in which control tokens may be written out, or a user's message.
std::vector<std::vector<std::int32_t>> encode_prompts(const LoadedModel& loaded, const std::vector<Prompt>& prompts,
                                                      bool chat) {
  base::require(!chat || loaded.start.chat_template.has_value(), "--chat: the model has no chat template");
  const data::ControlTokens control_tokens(loaded.start.tokenizer);
  std::vector<std::vector<std::int32_t>> tokens;
  for (const Prompt& prompt : prompts) {
    if (chat) {
      control_tokens.require_none(prompt.text, prompt.where);
      tokens.push_back(loaded.start.tokenizer.encode(loaded.start.chat_template->render(question(prompt.text), true)));
    } else {
      tokens.push_back(loaded.start.tokenizer.encode(prompt.text, true));
    }
  }
  return tokens;
}

/// Adds the message that the text of an answer stands for, or what is malformed about it.
void describe_reply(const LoadedModel& loaded, const std::string& prompt, const std::string& text, base::Json& line) {
  try {
    base::Json message = data::message_for_template(loaded.start.chat_template->parse_reply(text, question(prompt)));
    message.erase("thinking");  // another name of the reasoning, for templates
    line["message"] = std::move(message);
  } catch (const base::Error& error) {
    line["malformed"] = error.what();
  }
}

/// What the completion adds to the text of the prompt (some decoders treat the first token of a text specially).
std::string text_of(const LoadedModel& loaded, std::vector<std::int32_t> prompt,
                    const rollout::Completion& completion) {
  const std::size_t before = loaded.start.tokenizer.decode(prompt).size();
  const std::size_t stop = completion.finish == rollout::FinishReason::kStop ? 1 : 0;
  prompt.insert(prompt.end(), completion.tokens.begin(), completion.tokens.end() - static_cast<std::ptrdiff_t>(stop));
  return loaded.start.tokenizer.decode(prompt).substr(before);
}

/// Says on standard error that an answer ended because the context is full. `limit` says where its size is from.
void warn_if_cut_off(const std::string& where, std::size_t prompt_tokens, const rollout::Completion& completion,
                     std::int64_t context, std::int64_t max_new_tokens, std::string_view limit) {
  const auto generated = static_cast<std::int64_t>(completion.tokens.size());
  if (completion.finish == rollout::FinishReason::kLength && generated < max_new_tokens &&
      static_cast<std::int64_t>(prompt_tokens) + generated >= context) {
    fmt::print(stderr, "warning: {}: cut off after {} new tokens, which fill the context of {} ({})\n", where,
               generated, context, limit);
  }
}

int generate(const GenerateOptions& options) {
  const std::vector<Prompt> prompts = read_prompts(options);
  LoadedModel loaded(options.model, options.device, autograd::ParameterUse::kInference, template_variables(options));
  const std::vector<std::vector<std::int32_t>> tokens = encode_prompts(loaded, prompts, options.chat);
  const std::int64_t positions = loaded.model->summary().max_position_embeddings;
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto length = static_cast<std::int64_t>(tokens[i].size());
    base::require(
        length < positions,
        "{}: has {} tokens and leaves no room in the context of {} (max_position_embeddings of {}): shorten it",
        prompts[i].where, length, positions, loaded.start.config_source);
    longest = std::max(longest, length);
  }
  const auto slots = std::min<std::int64_t>(8, static_cast<std::int64_t>(prompts.size()));
  rollout::Generator generator(*loaded.model, loaded.stream,
                               {slots, std::min(longest + options.max_new_tokens, positions), 1024});
  const auto completions = generator.generate(tokens, sampling_of(options, loaded));
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    warn_if_cut_off(prompts[i].where, tokens[i].size(), completions[i], positions, options.max_new_tokens,
                    "max_position_embeddings of config.json");
    const std::string text = text_of(loaded, tokens[i], completions[i]);
    if (options.json) {
      base::Json line = {{"prompt", prompts[i].text},
                         {"completion", text},
                         {"prompt_tokens", tokens[i]},
                         {"tokens", completions[i].tokens},
                         {"log_probabilities", completions[i].log_probabilities},
                         {"finish_reason", completions[i].finish == rollout::FinishReason::kStop ? "stop" : "length"}};
      if (options.chat) {
        describe_reply(loaded, prompts[i].text, text, line);
      }
      fmt::print("{}\n", line.dump(-1, ' ', false, base::Json::error_handler_t::replace));
    } else {
      fmt::print("{}{}{}\n", i == 0 ? "" : "\n", options.chat ? "" : prompts[i].text, text);
    }
  }
  return kSuccess;
}

int chat(const GenerateOptions& options) {
  LoadedModel loaded(options.model, options.device, autograd::ParameterUse::kInference, template_variables(options));
  base::require(loaded.start.chat_template.has_value(), "the model has no chat template: use flyover generate");
  const std::int64_t context = std::min(loaded.model->summary().max_position_embeddings, kMostChatTokens);
  rollout::Generator generator(*loaded.model, loaded.stream, {1, context, 1024});
  const data::ControlTokens control_tokens(loaded.start.tokenizer);
  data::Conversation conversation;
  fmt::print("An empty line or Ctrl-D ends the conversation.\n");
  std::string line;
  for (;;) {
    fmt::print("> ");
    std::fflush(stdout);
    line.clear();
    for (int c = std::getchar(); c != EOF && c != '\n'; c = std::getchar()) {
      line.push_back(static_cast<char>(c));
    }
    if (line.empty()) {
      return kSuccess;
    }
    try {
      require_utf8(line, "your line");
      control_tokens.require_none(line, "your line");
    } catch (const base::Error& error) {
      fmt::print("({}; ask again)\n", error.what());
      continue;
    }
    conversation.messages.push_back(data::text_message("user", line));
    const auto prompt = loaded.start.tokenizer.encode(loaded.start.chat_template->render(conversation, true));
    const std::vector<std::int32_t>& stops = loaded.start.stop_tokens;
    tokenizer::StreamingDecoder decoder(loaded.start.tokenizer);
    const auto completions =
        generator.generate({prompt}, sampling_of(options, loaded), [&](std::size_t, std::int32_t token) {
          if (std::find(stops.begin(), stops.end(), token) == stops.end()) {
            fmt::print("{}", decoder.push(token));
            std::fflush(stdout);
          }
        });
    fmt::print("{}\n", decoder.finish());
    std::fflush(stdout);
    warn_if_cut_off("the answer", prompt.size(), completions.front(), context, options.max_new_tokens,
                    fmt::format("max_position_embeddings of config.json, at most {} in a chat", kMostChatTokens));
    try {
      data::Message reply =
          loaded.start.chat_template->parse_reply(text_of(loaded, prompt, completions.front()), conversation);
      base::require(reply.tool_calls == nullptr, "the model calls a tool, and there are none here");
      conversation.messages.push_back(std::move(reply));
    } catch (const base::Error& error) {
      fmt::print("({}; the question and this answer are left out of what follows)\n", error.what());
      conversation.messages.pop_back();
    }
  }
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Continue prompts with a model");
  command->add_option("--model", options->model, "Model directory")->required();
  command->add_option("--prompt", options->prompts, "Text to continue (may be repeated)")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--prompts", options->prompts_file, "JSONL file with \"prompt\" in each row");
  command->add_flag("--chat", options->chat, "Prompts are user messages in the model's chat template");
  command->add_flag("--json", options->json, "One JSON object per prompt, with tokens and log-probabilities");
  add_template_options(*command, *options);
  add_sampling_options(*command, *options);
  add_device_options(*command, options->device);
  command->callback([options, &action] { action = [options] { return generate(*options); }; });
}

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("chat", "Talk to a model");
  command->add_option("--model", options->model, "Model directory")->required();
  add_template_options(*command, *options);
  add_sampling_options(*command, *options);
  add_device_options(*command, options->device);
  command->callback([options, &action] { action = [options] { return chat(*options); }; });
}

}  // namespace flyover::cli
