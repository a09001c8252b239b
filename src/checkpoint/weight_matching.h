// Which weight of a directory fills which slice of a model's parameters. Nothing is loaded here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/parameter.h"
#include "checkpoint/stored_weight.h"
#include "models/language_model.h"

namespace flyover::checkpoint {

/// The sizes of a slice, outermost first.
std::vector<std::int64_t> shape_of(const autograd::CheckpointSlice& slice);

/// A slice and the weight that fills it.
struct MatchedSlice {
  const autograd::Parameter* parameter;
  const autograd::CheckpointSlice* slice;
  StoredWeight weight;
};

/// One match for every slice of the model, in the order of parameters and slices; every tensor of the directory is used
/// exactly once, but for those that repeat another (see copied_name, and a tied model's "lm_head.weight") and rotary
/// tables. Looks at names, types and shapes; of what the tensors hold, only at a tied model's "lm_head.weight". Throws
/// Error as load_weights does. `stored_vocabulary` as there.
std::vector<MatchedSlice> match_tensors(const ModelDirectory& directory, const models::LanguageModel& model,
                                        std::int64_t stored_vocabulary = 0);

/// Throws Error, as load_weights does, for what only the bytes of matched tensors tell: scales that are no numbers,
/// indices out of range, copies that are none.
void check_contents(const ModelDirectory& directory, const models::LanguageModel& model,
                    std::span<const MatchedSlice> matched);

/// Both.
std::vector<MatchedSlice> match_weights(const ModelDirectory& directory, const models::LanguageModel& model,
                                        std::int64_t stored_vocabulary = 0);

/// A table of each token's experts, which files hold as I64 or I32; where the vocabulary grows, its new rows repeat the
/// stored ones from the first. Throws Error naming file, tensor, token and expert for one that is out of range, and for
/// a table in which every row names an expert twice.
std::vector<std::int32_t> read_indices(const MatchedSlice& match);

/// The name of the embedding or the output layer if `name` is a copy of it that some checkpoints of DeepSeek keep with
/// their prediction block ("mtp.0.emb.tok_emb.weight", "mtp.0.head.weight"; of DeepSeek-V3 with 61 layers
/// "model.layers.61.embed_tokens.weight", "model.layers.61.shared_head.head.weight"); else an empty string.
std::string copied_name(const models::LanguageModel& model, std::string_view name);

}  // namespace flyover::checkpoint
