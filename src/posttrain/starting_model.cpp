#include "posttrain/starting_model.h"

#include <algorithm>
#include <array>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/model_weights.h"
#include "data/deepseek_v4/tokens.h"
#include "tokenizer/edit.h"
#include "tokenizer/train.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;
using base::Json;
using tokenizer::Tokenizer;

constexpr std::string_view kEndOfText = "<|endoftext|>";
/// How text is cut before a vocabulary is learned: words with the space before them, digits one by one (so that numbers
/// are read as people write them), runs of signs, white space.
constexpr std::string_view kWordsAndDigits = R"( ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// `eos_token_id` and the like: a number, a list of numbers, or nothing.
std::vector<std::int32_t> token_ids(const Json& object, std::string_view key, const std::string& source) {
  const Json* value = base::find_member(object, key, source);
  std::vector<std::int32_t> ids;
  if (value == nullptr) {
    return ids;
  }
  for (const Json& id : value->is_array() ? *value : Json::array({*value})) {
    base::require(id.is_number_integer() && id.get<std::int64_t>() >= 0 && id.get<std::int64_t>() <= INT32_MAX,
                  "{}: \"{}\" must be a token id or a list of them", source, key);
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

/// A file of a model directory, where there is a directory and it has the file.
std::optional<Json> optional_json(const fs::path& directory, std::string_view name) {
  const bool present = !directory.empty() && fs::exists(directory / name);
  return present ? std::optional(base::read_json_file(directory / name)) : std::nullopt;
}

/// bos_token and eos_token as texts, from the ids of the configuration.
data::SpecialTokens special_tokens(const StartingModel& model) {
  data::SpecialTokens tokens;
  for (const auto& [name, key] : {std::pair("bos_token", "bos_token_id"), std::pair("eos_token", "eos_token_id")}) {
    const auto ids = token_ids(*model.config, key, model.config_source);
    if (!ids.empty() && ids.front() < model.tokenizer.vocabulary_size()) {
      tokens[name] = model.tokenizer.id_to_token(ids.front());
    }
  }
  return tokens;
}

bool is_built_in(const std::string& name) {
  const auto templates = data::built_in_templates();
  return std::any_of(templates.begin(), templates.end(), [&](const auto& entry) { return entry.name == name; });
}

/// Adds the tokens that a template needs to the tokenizer, and rows for them to the vocabulary.
void add_tokens(StartingModel& model, const std::vector<std::string_view>& needed) {
  std::vector<std::string> missing;
  for (const std::string_view token : needed) {
    const auto id = model.tokenizer.token_to_id(token);
    if (!id || !model.tokenizer.is_special(*id)) {
      missing.emplace_back(token);
    }
  }
  if (missing.empty()) {
    return;
  }
  model.tokenizer_json = tokenizer::with_added_special_tokens(model.tokenizer_json, "tokenizer.json", missing);
  model.tokenizer = Tokenizer::parse(model.tokenizer_json, "tokenizer.json");
  model.extra_files["tokenizer.json"] = model.tokenizer_json;
  const std::int64_t rows = base::get_integer(*model.config, "vocab_size", model.config_source);
  if (model.tokenizer.vocabulary_size() > rows) {
    model.stored_vocabulary = rows;
    (*model.config)["vocab_size"] = model.tokenizer.vocabulary_size();
  }
}

/// Makes the written model speak with this template: tokenizer_config.json, generation_config.json and, where it is not
/// the model's own, chat_template.jinja.
void describe_template(StartingModel& model, const fs::path& directory, bool is_own) {
  const data::ChatTemplate& chat = *model.chat_template;
  const auto planned = model.extra_files.find("tokenizer_config.json");
  Json tokenizer_config = planned != model.extra_files.end()
                              ? base::parse_json(planned->second, "tokenizer_config.json")
                              : optional_json(directory, "tokenizer_config.json").value_or(Json::object());
  if (!is_own) {
    model.extra_files["chat_template.jinja"] = chat.source();
    tokenizer_config["chat_template"] = chat.source();
  }
  for (const auto& [name, text] : chat.special_tokens()) {
    tokenizer_config[name] = text;
  }
  Json generation = optional_json(directory, "generation_config.json").value_or(Json::object());
  if (const auto id = model.tokenizer.token_to_id(chat.end_of_turn())) {
    tokenizer_config["eos_token"] = chat.end_of_turn();
    std::erase(model.stop_tokens, *id);
    model.stop_tokens.insert(model.stop_tokens.begin(), *id);
  }
  generation["eos_token_id"] = model.stop_tokens;
  model.extra_files["tokenizer_config.json"] = tokenizer_config.dump(2) + "\n";
  model.extra_files["generation_config.json"] = generation.dump(2) + "\n";
}

/// A DeepSeek-V4 model that brings no template follows the published code, if its tokenizer has the tokens.
bool speaks_deepseek_v4(const StartingModel& model) {
  const auto& tokens = data::deepseek_v4::kCoreTokens;
  return base::get_string(*model.config, "model_type", model.config_source) == "deepseek_v4" &&
         std::all_of(tokens.begin(), tokens.end(),
                     [&](std::string_view token) { return model.tokenizer.token_to_id(token).has_value(); });
}

/// The template that a model directory brings or implies.
void choose_own_template(StartingModel& model, const fs::path& directory) {
  model.chat_template = data::ChatTemplate::from_model_directory(directory);
  if (!model.chat_template && speaks_deepseek_v4(model)) {
    model.chat_template = data::ChatTemplate::built_in("deepseek_v4", special_tokens(model));
    const auto end_of_turn = model.tokenizer.token_to_id(data::deepseek_v4::kEndOfTurn);
    if (std::find(model.stop_tokens.begin(), model.stop_tokens.end(), *end_of_turn) == model.stop_tokens.end()) {
      model.stop_tokens.push_back(*end_of_turn);
    }
  }
}

/// The tokens that the recipe names for a template which is not built in.
void name_tokens(StartingModel& model, const TemplateChoice& choice) {
  base::require(model.chat_template.has_value(),
                "end_of_turn and special_tokens are those of a chat template, and the model has none: name one with "
                "chat_template");
  std::vector<std::string_view> needed(choice.special_tokens.begin(), choice.special_tokens.end());
  if (!choice.end_of_turn.empty()) {
    needed.push_back(choice.end_of_turn);
    model.chat_template->set_end_of_turn(choice.end_of_turn);
  }
  add_tokens(model, needed);
}

void choose_template(StartingModel& model, const TemplateChoice& choice, const fs::path& directory) {
  const std::string& name = choice.chat_template;
  const bool names_tokens = !choice.end_of_turn.empty() || !choice.special_tokens.empty();
  if (is_built_in(name)) {
    base::require(!names_tokens,
                  "chat_template {}: a built-in template brings its own tokens: leave out end_of_turn and "
                  "special_tokens, or give a Jinja file",
                  name);
    const data::SpecialTokens tokens = special_tokens(model);
    add_tokens(model, data::find_built_in_template(name).special_tokens);
    model.chat_template = data::ChatTemplate::built_in(name, tokens);
  } else if (!name.empty()) {
    base::require(fs::exists(name), "chat_template \"{}\" is neither a built-in template nor a file", name);
    model.chat_template.emplace(base::read_file(name), name, special_tokens(model));
  } else if (!directory.empty()) {
    choose_own_template(model, directory);
  }
  if (names_tokens) {
    name_tokens(model, choice);
  }
  if (!name.empty() || names_tokens) {
    describe_template(model, directory, name.empty());
  }
}

void apply_template(StartingModel& model, const TemplateChoice& choice, const fs::path& directory) {
  choose_template(model, choice, directory);
  if (model.chat_template) {
    model.chat_template->set_now(choice.now);
    model.chat_template->set_prompt_texts(model.prompt_texts);
    model.chat_template->set_variables(choice.variables);
  }
}

void finish(StartingModel& model, const TemplateChoice& choice, const fs::path& directory) {
  const std::int64_t rows = base::get_integer(*model.config, "vocab_size", model.config_source);
  base::require(model.tokenizer.vocabulary_size() <= rows,
                "{}: vocab_size {} is smaller than the tokenizer's {} tokens: they do not belong together",
                model.config_source, rows, model.tokenizer.vocabulary_size());
  model.stop_tokens = token_ids(*model.config, "eos_token_id", model.config_source);
  if (!model.stop_tokens.empty()) {
    model.end_of_text = model.stop_tokens.front();
  }
  if (const auto generation = optional_json(directory, "generation_config.json")) {
    const auto ids = token_ids(*generation, "eos_token_id", (directory / "generation_config.json").string());
    model.stop_tokens = ids.empty() ? model.stop_tokens : ids;
  }
  apply_template(model, choice, directory);
}

std::string read_tokenizer_json(const fs::path& directory) {
  const fs::path file = directory / "tokenizer.json";
  base::require(
      fs::exists(file),
      "{}: has no tokenizer.json (a tokenizer.model or vocab.json alone is not enough: save the tokenizer with "
      "the library that made it)",
      directory.string());
  return base::read_file(file);
}

}  // namespace

StartingModel open_model(const fs::path& path, const TemplateChoice& choice) {
  auto directory = checkpoint::ModelDirectory::open(path);
  const std::string tokenizer_json = read_tokenizer_json(path);
  StartingModel model{std::make_shared<Json>(directory.config()),
                      (path / "config.json").string(),
                      {},
                      0,
                      tokenizer_json,
                      Tokenizer::parse(tokenizer_json, (path / "tokenizer.json").string()),
                      {},
                      {},
                      {},
                      {}};
  model.directory.emplace(std::move(directory));
  model.prompt_texts = data::deepseek_v4::read_prompt_texts(path / data::deepseek_v4::kPromptTextsFile);
  finish(model, choice, path);
  return model;
}

StartingModel random_model(const recipe::RandomModel& random, const TemplateChoice& choice,
                           const std::function<std::string(std::int64_t)>& corpus) {
  std::string tokenizer_json;
  std::string source = "the trained tokenizer";
  data::deepseek_v4::PromptTexts prompt_texts;
  std::map<std::string, std::string> texts_file;
  Json tokenizer_config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"eos_token", kEndOfText}};
  if (random.tokenizer.train_bpe) {
    tokenizer::BpeTraining training;
    training.vocabulary_size = random.tokenizer.train_bpe->vocabulary_size;
    training.special_tokens = {std::string(kEndOfText)};
    training.pattern = kWordsAndDigits;
    tokenizer_json = tokenizer::train_bpe(corpus(random.tokenizer.train_bpe->samples), training);
  } else {
    const fs::path path = random.tokenizer.path;
    source = path.string();
    tokenizer_json = fs::is_directory(path) ? read_tokenizer_json(path) : base::read_file(path);
    const fs::path beside = fs::is_directory(path) ? path : path.parent_path();
    tokenizer_config = optional_json(beside, "tokenizer_config.json").value_or(tokenizer_config);
    const fs::path texts = beside / data::deepseek_v4::kPromptTextsFile;
    prompt_texts = data::deepseek_v4::read_prompt_texts(texts);
    if (fs::exists(texts)) {
      texts_file.emplace(data::deepseek_v4::kPromptTextsFile, base::read_file(texts));
    }
  }
  StartingModel model{std::make_shared<Json>(base::parse_json(random.config.text, "model.random.config")),
                      "model.random.config",
                      {},
                      0,
                      tokenizer_json,
                      Tokenizer::parse(tokenizer_json, source),
                      {},
                      {},
                      {},
                      std::move(texts_file),
                      std::move(prompt_texts)};
  Json& config = *model.config;
  if (!config.contains("vocab_size")) {
    config["vocab_size"] = model.tokenizer.vocabulary_size();
  }
  if (!config.contains("eos_token_id")) {
    if (const auto id = model.tokenizer.token_to_id(kEndOfText)) {
      config["eos_token_id"] = *id;
    }
  }
  const std::string_view architecture =
      models::architecture_of(base::get_string(config, "model_type", model.config_source));
  if (!config.contains("architectures") && !architecture.empty()) {
    config["architectures"] = Json::array({architecture});
  }
  model.extra_files["tokenizer.json"] = tokenizer_json;
  model.extra_files["tokenizer_config.json"] = tokenizer_config.dump(2) + "\n";
  finish(model, choice, {});
  model.stored_vocabulary = 0;  // there are no stored weights that the vocabulary could outgrow
  return model;
}

StartingModel next_model(const StartingModel& previous, const TemplateChoice& choice) {
  StartingModel model{std::make_shared<Json>(*previous.config),
                      previous.config_source,
                      {},
                      0,
                      previous.tokenizer_json,
                      previous.tokenizer,
                      previous.chat_template,
                      previous.end_of_text,
                      previous.stop_tokens,
                      previous.extra_files,
                      previous.prompt_texts};
  apply_template(model, choice, {});
  model.stored_vocabulary = 0;
  return model;
}

models::StoredNames stored_names(const StartingModel& start) {
  return start.directory ? checkpoint::stored_names(*start.directory) : models::StoredNames();
}

std::unique_ptr<models::LanguageModel> make_model(const StartingModel& start) {
  return models::make_model(*start.config, start.config_source, stored_names(start));
}

}  // namespace flyover::posttrain
