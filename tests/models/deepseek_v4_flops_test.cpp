// DeepSeek-V4: the matrix elements that a token meets and the FLOPs of training, counted pair by pair from the sizes.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "models/language_model.h"

namespace flyover::models {
namespace {

using base::Json;

constexpr std::int64_t kLong = 300;  ///< tokens of a document with two entries of 128 tokens and 75 of 4

/// Three layers: a window alone, entries of 4 tokens with an indexer, entries of 128 tokens. All sizes differ.
Json small_config(std::int64_t window, std::int64_t top_k) {
  Json config = Json::parse(R"({"model_type": "deepseek_v4", "vocab_size": 23, "hidden_size": 20,
    "num_hidden_layers": 3, "compress_ratios": [0, 4, 128], "num_attention_heads": 6, "head_dim": 10,
    "qk_rope_head_dim": 4, "q_lora_rank": 7, "o_groups": 3, "o_lora_rank": 5, "index_n_heads": 2, "index_head_dim": 8,
    "n_routed_experts": 9, "num_experts_per_tok": 2, "moe_intermediate_size": 11, "num_hash_layers": 1, "hc_mult": 4,
    "routed_scaling_factor": 1.5})");
  config["sliding_window"] = window;
  config["index_topk"] = top_k;
  return config;
}

/// What the language model's loss trains and a token is multiplied with, summed from the report's equations.
std::int64_t expected_matrix_parameters(const Json& config) {
  const auto size = [&](const char* key) { return config.at(key).get<std::int64_t>(); };
  const std::int64_t hidden = size("hidden_size"), heads = size("num_attention_heads") * size("head_dim");
  const std::int64_t n = size("hc_mult"), streams = n * hidden, ranks = size("o_groups") * size("o_lora_rank");
  std::int64_t sum = size("vocab_size") * hidden + n * streams;  // output layer, and the head that reads the streams
  for (const std::int64_t ratio : config.at("compress_ratios").get<std::vector<std::int64_t>>()) {
    sum += hidden * size("q_lora_rank") + size("q_lora_rank") * heads;  // queries
    sum += hidden * size("head_dim");                                   // the shared key
    sum += heads * size("o_lora_rank") + ranks * hidden;  // each group's heads to its rank, all ranks to the output
    const std::int64_t roles = ratio == 0 ? 0 : ratio == 4 ? 2 : 1;  // short windows overlap
    sum += 2 * roles * size("head_dim") * hidden;                    // entries' values and gates
    sum += size("n_routed_experts") * hidden;                        // router, where a table routes as well
    sum += (size("num_experts_per_tok") + 1) * 3 * hidden * size("moe_intermediate_size");  // one expert is shared
    sum += 2 * (2 * n + n * n) * streams;  // before attention and experts: reading, writing and mixing of streams
  }
  return sum;
}

/// Pairs of a query and something that lies before it, in one document and layer.
struct Pairs {
  double attended = 0;  ///< keys of the window, and entries
  double scored = 0;    ///< entries that an indexer scores
};

Pairs count_pairs(std::int64_t length, std::int64_t ratio, std::int64_t window, std::int64_t top_k) {
  Pairs pairs;
  for (std::int64_t query = 0; query < length; ++query) {
    for (std::int64_t key = 0; key <= query; ++key) {
      pairs.attended += query - key < window ? 1 : 0;
    }
    std::int64_t visible = 0, of_document = 0;
    for (std::int64_t last = ratio - 1; ratio > 0 && last < length; last += ratio) {
      visible += last <= query ? 1 : 0;  // an entry is there when its last token is
      ++of_document;
    }
    const bool chooses = ratio == 4 && of_document > top_k;
    pairs.attended += static_cast<double>(chooses && visible > top_k ? top_k : visible);
    pairs.scored += static_cast<double>(chooses ? visible : 0);
  }
  return pairs;
}

/// 6 for each matrix element and token. A pair has scores and values of all heads, 2 FLOPs an element each, three times
/// with the backward pass. Scores of indexers are computed forward alone.
double expected_flops(const Json& config, const std::vector<std::int64_t>& lengths) {
  const auto size = [&](const char* key) { return config.at(key).get<std::int64_t>(); };
  const auto heads = static_cast<double>(size("num_attention_heads") * size("head_dim"));
  const auto index = static_cast<double>(size("index_n_heads") * size("index_head_dim"));
  double flops = 0;
  for (const std::int64_t length : lengths) {
    flops += 6.0 * static_cast<double>(expected_matrix_parameters(config) * length);
    for (const std::int64_t ratio : config.at("compress_ratios").get<std::vector<std::int64_t>>()) {
      const Pairs pairs = count_pairs(length, ratio, size("sliding_window"), size("index_topk"));
      flops += 3.0 * (2.0 + 2.0) * heads * pairs.attended + 2.0 * index * pairs.scored;
    }
  }
  return flops;
}

double flops_of(const Json& config, const std::vector<std::int64_t>& lengths) {
  return make_model(config, "config.json")->training_flops(lengths);
}

TEST(DeepSeekV4Flops, MatrixParametersAreThoseThatATokenIsMultipliedWith) {
  for (const char* ratios : {"[0, 4, 128]", "[0, 0, 0]", "[4, 4, 4]", "[128, 128, 128]"}) {
    Json config = small_config(8, 4);
    config["compress_ratios"] = Json::parse(ratios);
    EXPECT_EQ(make_model(config, "config.json")->summary().matrix_parameters, expected_matrix_parameters(config))
        << ratios;
  }
}

TEST(DeepSeekV4Flops, OfSmallSizesAreWhatTheyAreByHand) {
  // Five tokens, a window of 2: 1 + 4 x 2 keys in each layer, and one entry of 4 tokens for the last two tokens.
  EXPECT_EQ(count_pairs(5, 0, 2, 4).attended, 9);
  EXPECT_EQ(count_pairs(5, 4, 2, 4).attended, 9 + 2);
  EXPECT_EQ(count_pairs(5, 128, 2, 4).attended, 9);
  const double elements = 6.0 * 5 * static_cast<double>(expected_matrix_parameters(small_config(2, 4)));
  EXPECT_EQ(flops_of(small_config(2, 4), {5}), elements + 12.0 * 6 * 10 * (9 + 11 + 9));
}

TEST(DeepSeekV4Flops, CountWhatEachKindOfLayerAttendsTo) {
  for (const char* ratios : {"[0, 0, 0]", "[4, 4, 4]", "[128, 128, 128]", "[0, 4, 128]"}) {
    for (const std::int64_t window : {std::int64_t{8}, kLong - 1, kLong, 2 * kLong}) {
      for (const std::int64_t top_k : {1, 5, 74, 75, 4096}) {  // 75 entries of 4 tokens: all of them from 75 on
        Json config = small_config(window, top_k);
        config["compress_ratios"] = Json::parse(ratios);
        EXPECT_EQ(flops_of(config, {kLong}), expected_flops(config, {kLong}))
            << ratios << ", window " << window << ", top " << top_k;
      }
    }
  }
}

TEST(DeepSeekV4Flops, OfADocumentDoNotDependOnItsNeighbours) {
  // Without entries, at the edges of entries, at the edge of where the indexer chooses among more than 5, and long.
  const std::vector<std::int64_t> lengths = {1, 3, 4, 23, 24, 127, 128, kLong};
  const Json config = small_config(8, 5);
  double sum = 0;
  for (const std::int64_t length : lengths) {
    const double alone = flops_of(config, {length});
    EXPECT_EQ(alone, expected_flops(config, {length})) << length;
    sum += alone;
  }
  EXPECT_EQ(flops_of(config, lengths), sum);
}

TEST(DeepSeekV4Flops, OfIndexersAreScoresWhereTheyChooseAndNeverTraining) {
  const Json narrow = small_config(8, 5);
  Json wide = narrow;
  wide.update({{"index_n_heads", 4}, {"index_head_dim", 16}});
  EXPECT_EQ(make_model(wide, "config.json")->summary().matrix_parameters,
            make_model(narrow, "config.json")->summary().matrix_parameters);
  const double scored = count_pairs(kLong, 4, 8, 5).scored;
  EXPECT_GT(scored, 0);
  EXPECT_EQ(flops_of(wide, {kLong}) - flops_of(narrow, {kLong}), 2.0 * (4 * 16 - 2 * 8) * scored);
  EXPECT_EQ(flops_of(wide, {23}), flops_of(narrow, {23})) << "five entries, all of which are attended to";
}

TEST(DeepSeekV4Flops, LeaveThePredictionBlockOut) {
  const Json without = small_config(8, 5);
  Json with = without;
  with["num_nextn_predict_layers"] = 1;
  EXPECT_GT(make_model(with, "config.json")->summary().prediction_parameters, 0);
  EXPECT_EQ(flops_of(with, {kLong}), flops_of(without, {kLong}));
}

}  // namespace
}  // namespace flyover::models
