// Why a weight, a loss or a gradient is not finite: the first tensor affected and the documents that do it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/sequence.h"
#include "models/language_model.h"
#include "nn/batch.h"
#include "trainer/step.h"

namespace flyover::trainer {

/// The first weight, in the model's order, that is not finite in the compute type or in its master copy: "parameter
/// NAME (element N)".
std::optional<std::string> find_non_finite_weight(const models::LanguageModel& model, tensor::Stream& stream);

/// The first gradient that is not finite in the order of the backward pass, the last block's first: "the gradient of
/// NAME (element N)".
std::optional<std::string> find_non_finite_gradient(const models::LanguageModel& model, tensor::Stream& stream);

/// Which pass over the micro-batches gave what is not finite.
enum class NonFinitePass : std::uint8_t { kTraining, kValidation };

/// How documents take part in it.
enum class DocumentShare : std::uint8_t {
  kAlone,     ///< each gives it alone
  kTogether,  ///< none gives it alone, but the micro-batches that they make up do, or only all of these together
  kNone       ///< a weight was not finite before: any document gives it
};

/// Where it comes from.
struct NonFiniteCause {
  std::string tensor;                  ///< the first affected, in the order in which a step computes
  std::vector<std::size_t> documents;  ///< rising, counted over all micro-batches
  DocumentShare share = DocumentShare::kTogether;
};

/// Runs the pass again, on fewer and fewer documents, and looks at weights, outputs of blocks and gradients. Takes as
/// long as some steps and overwrites the gradients: for a run that is about to stop.
NonFiniteCause find_non_finite_cause(models::LanguageModel& model, tensor::Stream& stream,
                                     const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options,
                                     NonFinitePass pass);

/// The rows of a cause, for messages: "rows that give it alone (2 of 60): data.jsonl:7, data.jsonl:31". `sequences`:
/// the dataset's index of every document that the micro-batches hold.
std::string describe_rows(const NonFiniteCause& cause, const data::Dataset& dataset,
                          std::span<const std::uint32_t> sequences);

}  // namespace flyover::trainer
