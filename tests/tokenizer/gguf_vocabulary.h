// The vocabulary of a GGUF file as a tokenizer.json document, so that llama.cpp's own cases can be run.
#pragma once

#include <filesystem>
#include <string>

namespace flyover::tokenizer::tests {

/// `pre_tokenizer` is JSON for models of type "gpt2", whose cutting GGUF only names. For SentencePiece models ("llama")
/// the merges are all ways to make a token out of two, in the order of the tokens' scores.
std::string document_of_gguf(const std::filesystem::path& file, const std::string& pre_tokenizer);

}  // namespace flyover::tokenizer::tests
