// File names of a Hugging Face model directory, as the Hugging Face libraries look for them.
#pragma once

#include <array>
#include <string_view>

namespace flyover::checkpoint {

inline constexpr std::string_view kConfigFile = "config.json";
inline constexpr std::string_view kSingleWeightsFile = "model.safetensors";
inline constexpr std::string_view kIndexFile = "model.safetensors.index.json";

/// What belongs to a model beside configuration and weights, and is copied where it exists.
inline constexpr std::array<std::string_view, 14> kCompanionFiles = {"tokenizer.json",
                                                                     "tokenizer_config.json",
                                                                     "special_tokens_map.json",
                                                                     "added_tokens.json",
                                                                     "vocab.json",
                                                                     "merges.txt",
                                                                     "vocab.txt",
                                                                     "tokenizer.model",
                                                                     "tiktoken.model",
                                                                     "tekken.json",
                                                                     "chat_template.jinja",
                                                                     "chat_template.json",
                                                                     "generation_config.json",
                                                                     "prompt_texts.json"};

}  // namespace flyover::checkpoint
