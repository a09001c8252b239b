// What a stage starts from: configuration, weights or random ones, tokenizer and chat template.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/hub_directory.h"
#include "data/chat_template.h"
#include "models/language_model.h"
#include "recipe/recipe.h"
#include "tokenizer/tokenizer.h"

namespace flyover::posttrain {

/// Everything but the weights in device memory. Tokens that the chat template needs are already added: to the
/// tokenizer, and to the vocabulary size of the configuration.
struct StartingModel {
  std::shared_ptr<base::Json> config;
  std::string config_source;                            ///< for messages
  std::optional<checkpoint::ModelDirectory> directory;  ///< absent: random weights
  std::int64_t stored_vocabulary = 0;                   ///< rows of the directory's embedding, where the model has more
  std::string tokenizer_json;                           ///< the document of `tokenizer`
  tokenizer::Tokenizer tokenizer;
  std::optional<data::ChatTemplate> chat_template;
  std::optional<std::int32_t> end_of_text;  ///< what ends a plain document
  std::vector<std::int32_t> stop_tokens;    ///< what ends generation
  /// Files of the written model that differ from the directory's: tokenizer, template, generation settings.
  std::map<std::string, std::string> extra_files;
  data::deepseek_v4::PromptTexts prompt_texts = {};  ///< of the file beside the model
};

/// How conversations shall become text.
struct TemplateChoice {
  std::string chat_template = {};                  ///< a built-in's name, a Jinja file, or empty for the model's own
  std::optional<std::int64_t> now = std::nullopt;  ///< what the template sees as the date: seconds since 1970, UTC
  data::JsonPointer variables = nullptr;           ///< of the template, an object
  /// Of a Jinja file or the model's own template: the token that ends the assistant's turn, empty for the template's
  /// eos_token, and further special tokens. They are added to the vocabulary where the tokenizer has none.
  std::string end_of_turn = {};
  std::vector<std::string> special_tokens = {};
};

/// Opens a model directory. Throws Error for what is missing or unusable.
StartingModel open_model(const std::filesystem::path& path, const TemplateChoice& choice);

/// The same for random weights; `corpus` gives the text that a tokenizer is trained on, where the recipe asks for one.
StartingModel random_model(const recipe::RandomModel& model, const TemplateChoice& choice,
                           const std::function<std::string(std::int64_t samples)>& corpus);

/// What the model that a stage will write is for the next stage, as far as tokenizer and template go: for checking the
/// next stage's data before anything is trained. It has no directory.
StartingModel next_model(const StartingModel& previous, const TemplateChoice& choice);

/// The names of its directory's tensors; none where it has no directory.
models::StoredNames stored_names(const StartingModel& start);

/// The model that it describes, under the names of its directory where it has one.
std::unique_ptr<models::LanguageModel> make_model(const StartingModel& start);

}  // namespace flyover::posttrain
