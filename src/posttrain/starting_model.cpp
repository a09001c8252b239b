#include "posttrain/starting_model.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/model_weights.h"
#include "data/protocol_strings.h"
#include "models/config_values.h"
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

/// A file of a model directory, where there is a directory and it has the file.
std::optional<Json> optional_json(const fs::path& directory, std::string_view name) {
  const bool present = !directory.empty() && fs::exists(directory / name);
  return present ? std::optional(base::read_json_file(directory / name)) : std::nullopt;
}

/// A file of the written model, an object: as it is planned so far, or else as the directory has it.
std::optional<Json> planned_json(const StartingModel& model, const fs::path& directory, const std::string& name) {
  const auto planned = model.extra_files.find(name);
  auto file = planned != model.extra_files.end() ? std::optional(base::parse_json(planned->second, name))
                                                 : optional_json(directory, name);
  base::require(!file || file->is_object(), "{}: expected an object, found {}", (directory / name).string(),
                file ? base::json_type_name(*file) : "");
  return file;
}

void plan_json(StartingModel& model, const std::string& name, const Json& contents) {
  model.extra_files[name] = contents.dump(2) + "\n";
}

std::int64_t vocabulary_of(const StartingModel& model) {
  return base::get_integer(*model.config, "vocab_size", model.config_source);
}

/// bos_token, eos_token, ... as texts: from the ids of the configuration, and those that only the tokenizer's files
/// name.
data::SpecialTokens special_tokens(const StartingModel& model, const fs::path& directory) {
  data::SpecialTokens tokens;
  for (const auto& [name, key] : {std::pair("bos_token", "bos_token_id"), std::pair("eos_token", "eos_token_id")}) {
    const auto ids = models::read_token_ids(*model.config, key, model.config_source, vocabulary_of(model));
    if (!ids.empty() && ids.front() < model.tokenizer.vocabulary_size()) {
      tokens[name] = model.tokenizer.id_to_token(ids.front());
    }
  }
  for (const char* const name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (const auto file = planned_json(model, directory, name)) {
      data::add_special_tokens(*file, name, tokens);
    }
  }
  return tokens;
}

bool is_built_in(const std::string& name) {
  const auto templates = data::built_in_templates();
  return std::any_of(templates.begin(), templates.end(), [&](const auto& entry) { return entry.name == name; });
}

/// Repeats tokens that were added to the tokenizer in the other files of the model that list such tokens.
void list_added_tokens(StartingModel& model, const fs::path& directory, const std::vector<std::string>& added) {
  auto ids = planned_json(model, directory, "added_tokens.json");
  auto config = planned_json(model, directory, "tokenizer_config.json");
  const bool has_decoder =
      config && config->contains("added_tokens_decoder") && (*config)["added_tokens_decoder"].is_object();
  for (const std::string& token : added) {
    const std::int32_t id = model.tokenizer.token_to_id(token).value();
    if (ids) {
      (*ids)[token] = id;
    }
    if (has_decoder) {
      Json entry = {{"content", token}};
      for (const char* const flag : {"lstrip", "normalized", "rstrip", "single_word"}) {
        entry[flag] = false;
      }
      entry["special"] = true;
      (*config)["added_tokens_decoder"][std::to_string(id)] = std::move(entry);
    }
  }
  if (ids) {
    plan_json(model, "added_tokens.json", *ids);
  }
  if (has_decoder) {
    plan_json(model, "tokenizer_config.json", *config);
  }
}

/// Adds the tokens that a template needs to the tokenizer, and rows for them to the vocabulary.
void add_tokens(StartingModel& model, const fs::path& directory, const std::vector<std::string_view>& needed) {
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
  list_added_tokens(model, directory, missing);
  const std::int64_t rows = vocabulary_of(model);
  if (model.tokenizer.vocabulary_size() > rows) {
    model.stored_vocabulary = rows;
    (*model.config)["vocab_size"] = model.tokenizer.vocabulary_size();
  }
}

/// Programs that have no use for generation_config.json stop at the tokens of config.json: the same, with the one that
/// ends plain text first.
void name_stop_tokens(StartingModel& model) {
  std::vector<std::int32_t> ids =
      models::read_token_ids(*model.config, "eos_token_id", model.config_source, vocabulary_of(model));
  for (const std::int32_t id : model.stop_tokens) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
      ids.push_back(id);
    }
  }
  if (!ids.empty()) {
    (*model.config)["eos_token_id"] = ids.size() == 1 ? Json(ids.front()) : Json(ids);
  }
}

/// Makes the written model speak with this template: tokenizer_config.json, generation_config.json and config.json;
/// where it is not the model's own, chat_template.jinja; and the files of older versions that repeat one of them.
void describe_template(StartingModel& model, const fs::path& directory, bool is_own) {
  const data::ChatTemplate& chat = *model.chat_template;
  Json tokenizer_config = planned_json(model, directory, "tokenizer_config.json").value_or(Json::object());
  auto tokens_map = planned_json(model, directory, "special_tokens_map.json");
  if (!is_own) {
    model.extra_files["chat_template.jinja"] = chat.source();
    tokenizer_config["chat_template"] = chat.source();
    if (auto older = planned_json(model, directory, "chat_template.json")) {
      (*older)["chat_template"] = chat.source();
      plan_json(model, "chat_template.json", *older);
    }
  }
  data::SpecialTokens tokens = chat.special_tokens();
  if (const auto id = model.tokenizer.token_to_id(chat.end_of_turn())) {
    tokens["eos_token"] = chat.end_of_turn();
    std::erase(model.stop_tokens, *id);
    model.stop_tokens.insert(model.stop_tokens.begin(), *id);
  }
  for (const auto& [name, text] : tokens) {
    tokenizer_config[name] = text;
    if (tokens_map) {
      (*tokens_map)[name] = text;
    }
  }
  if (tokens_map) {
    plan_json(model, "special_tokens_map.json", *tokens_map);
  }
  plan_json(model, "tokenizer_config.json", tokenizer_config);
  Json generation = planned_json(model, directory, "generation_config.json").value_or(Json::object());
  if (!model.stop_tokens.empty()) {
    generation["eos_token_id"] = model.stop_tokens;
  }
  plan_json(model, "generation_config.json", generation);
  name_stop_tokens(model);
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
    model.chat_template = data::ChatTemplate::built_in("deepseek_v4", special_tokens(model, directory));
    const auto end_of_turn = model.tokenizer.token_to_id(data::deepseek_v4::kEndOfTurn);
    if (std::find(model.stop_tokens.begin(), model.stop_tokens.end(), *end_of_turn) == model.stop_tokens.end()) {
      model.stop_tokens.push_back(*end_of_turn);
    }
  }
}

/// The tokens that the recipe names for a template which is not built in.
void name_tokens(StartingModel& model, const TemplateChoice& choice, const fs::path& directory) {
  base::require(model.chat_template.has_value(),
                "end_of_turn and special_tokens are those of a chat template, and the model has none: name one with "
                "chat_template");
  std::vector<std::string_view> needed(choice.special_tokens.begin(), choice.special_tokens.end());
  if (!choice.end_of_turn.empty()) {
    needed.push_back(choice.end_of_turn);
    model.chat_template->set_end_of_turn(choice.end_of_turn);
  }
  add_tokens(model, directory, needed);
}

void choose_template(StartingModel& model, const TemplateChoice& choice, const fs::path& directory) {
  const std::string& name = choice.chat_template;
  const bool names_tokens = !choice.end_of_turn.empty() || !choice.special_tokens.empty();
  if (is_built_in(name)) {
    base::require(!names_tokens,
                  "chat_template {}: a built-in template brings its own tokens: leave out end_of_turn and "
                  "special_tokens, or give a Jinja file",
                  name);
    const data::SpecialTokens tokens = special_tokens(model, directory);
    add_tokens(model, directory, data::find_built_in_template(name).special_tokens);
    model.chat_template = data::ChatTemplate::built_in(name, tokens);
  } else if (!name.empty()) {
    std::error_code error;
    const bool found = fs::exists(name, error);
    base::require(found, "chat_template \"{}\" is neither a file{} nor a built-in template; there are: {}", name,
                  error ? " (" + error.message() + ")" : "", data::built_in_template_names());
    model.chat_template.emplace(base::read_file(name), name, special_tokens(model, directory));
  } else if (!directory.empty()) {
    choose_own_template(model, directory);
  }
  if (names_tokens) {
    name_tokens(model, choice, directory);
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
  const std::int64_t rows = vocabulary_of(model);
  base::require(model.tokenizer.vocabulary_size() <= rows,
                "{}: vocab_size {} is smaller than the tokenizer's {} tokens: they do not belong together",
                model.config_source, rows, model.tokenizer.vocabulary_size());
  model.stop_tokens = models::read_token_ids(*model.config, "eos_token_id", model.config_source, rows);
  if (!model.stop_tokens.empty()) {
    model.end_of_text = model.stop_tokens.front();
  }
  if (const auto generation = optional_json(directory, "generation_config.json")) {
    const std::string source = (directory / "generation_config.json").string();
    models::check_token_ids(*generation, source, rows);
    const auto ids = models::read_token_ids(*generation, "eos_token_id", source, rows);
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
