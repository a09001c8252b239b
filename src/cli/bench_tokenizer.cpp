// The speed of a tokenizer: bytes of text that one thread encodes in a second.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/number_options.h"
#include "tokenizer/tokenizer.h"

namespace flyover::cli {
namespace {

constexpr std::size_t kDocumentBytes = 4096;  // about: a document ends with a line

struct TokenizerBenchOptions {
  std::string tokenizer;
  std::string text;
  int rounds = 3;
  bool json = false;
};

/// The text in documents of whole lines, as training data come.
std::vector<std::string_view> documents_of(std::string_view text) {
  std::vector<std::string_view> documents;
  while (!text.empty()) {
    const std::size_t line_end = text.find('\n', std::min(kDocumentBytes, text.size()));
    const std::size_t size = line_end == std::string_view::npos ? text.size() : line_end + 1;
    documents.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return documents;
}

int bench_tokenizer(const TokenizerBenchOptions& options) {
  std::filesystem::path file = options.tokenizer;
  if (std::filesystem::is_directory(file)) {
    file /= "tokenizer.json";
  }
  const std::string text = base::read_file(options.text);
  base::require(!text.empty(), "{}: is empty: there is nothing to encode", options.text);
  const std::vector<std::string_view> documents = documents_of(text);
  double fastest = 0;
  std::size_t tokens = 0;
  for (int round = 0; round < options.rounds; ++round) {
    // Anew in each round: no word is known from the round before.
    const auto fresh = tokenizer::Tokenizer::load(file);
    tokens = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (const std::string_view document : documents) {
      tokens += fresh.encode(document).size();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    fastest = fastest == 0 ? seconds : std::min(fastest, seconds);
  }
  const double speed = static_cast<double>(text.size()) / fastest;
  if (options.json) {
    const base::Json report = {{"tokenizer.bytes_per_second", speed},
                               {"tokenizer.tokens_per_second", static_cast<double>(tokens) / fastest},
                               {"bytes", text.size()},
                               {"tokens", tokens},
                               {"documents", documents.size()}};
    fmt::print("{}\n", report.dump(2));
  } else {
    fmt::print("{:.1f} MB/s on one thread: {} bytes in {} documents, {} tokens ({:.2f} bytes each)\n", speed * 1e-6,
               text.size(), documents.size(), tokens, static_cast<double>(text.size()) / static_cast<double>(tokens));
  }
  return kSuccess;
}

}  // namespace

void add_bench_tokenizer(CLI::App& bench, Action& action) {
  auto options = std::make_shared<TokenizerBenchOptions>();
  CLI::App* command = bench.add_subcommand("tokenizer", "Encoding a text file on one thread");
  command->add_option("tokenizer", options->tokenizer, "A tokenizer.json, or a directory with one")->required();
  command->add_option("text", options->text, "The file to encode")->required();
  add_number(*command, "--rounds", options->rounds, recipe::between(1, 1000), "The fastest counts");
  command->add_flag("--json", options->json);
  command->callback([options, &action] { action = [options] { return bench_tokenizer(*options); }; });
}

}  // namespace flyover::cli
