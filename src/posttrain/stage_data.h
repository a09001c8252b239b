// A stage's data: sources of the recipe to tokenised training and validation sets.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/examples.h"
#include "data/sequence.h"
#include "posttrain/starting_model.h"
#include "recipe/recipe.h"

namespace flyover::posttrain {

/// What a stage trains and validates on.
struct StageData {
  data::Dataset train;
  data::Dataset validation;  ///< without sequences where there is none
  std::vector<data::SourceReport> reports;
};

/// Calls `visit(document, where, row)` for the rows of a source, in order, up to its limit; false stops. Throws Error
/// for a bad row, or rows of mixed formats.
void for_each_document(
    const recipe::Source& source, std::uint64_t seed,
    const std::function<bool(const data::Document&, const std::string& where, std::int64_t row)>& visit);

/// Reads and tokenises everything. Throws Error naming file and line for the first bad row, and for an empty set.
StageData load_data(const recipe::Stage& stage, std::uint64_t seed, const StartingModel& model);

/// The texts of the first `samples` documents of a stage's training sources, for training a tokenizer.
std::string training_text(const recipe::Stage& stage, std::uint64_t seed, std::int64_t samples);

/// One line per source for people: rows, examples, tokens, targets, what was cut or dropped.
std::string format_reports(const std::vector<data::SourceReport>& reports);

}  // namespace flyover::posttrain
