#include "data/batches.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/host_memory.h"
#include "base/random.h"
#include "base/text.h"

namespace flyover::data {
namespace {

/// Streams of random numbers of one epoch.
enum Stream : std::uint64_t { kOverall = 0, kFirstSource = 1 };

/// Visits to sequences that a plan may hold.
constexpr std::int64_t kMostVisits = 100'000'000;

/// Throws Error, before any memory is taken, for a plan with more visits than may be held. A batch of tokens is taken
/// to hold as many sequences as at least fit.
void require_plannable(const Dataset& dataset, const BatchOptions& options) {
  std::vector<double> members(dataset.source_weights.size(), 0.0);
  for (const Sequence& sequence : dataset.sequences) {
    members[static_cast<std::size_t>(sequence.source)] += 1;
  }
  double of_epoch = 0;
  for (std::size_t source = 0; source < members.size(); ++source) {
    const double visits = dataset.source_weights[source] * members[source];
    of_epoch += visits;
    base::require(
        of_epoch <= kMostVisits,
        "{}: the source {} with weight {} makes an epoch of {:.4g} examples, and a plan holds at most {}: lower its "
        "weight",
        options.at("data.train"), dataset.source_names[source], dataset.source_weights[source], of_epoch, kMostVisits);
  }
  const double infinity = std::numeric_limits<double>::infinity();
  const double by_epochs = options.epochs > 0 ? options.epochs * of_epoch : infinity;
  const std::int64_t of_batch =
      options.batch_sequences > 0
          ? options.batch_sequences
          : std::max<std::int64_t>(options.batch_tokens / std::max<std::int64_t>(dataset.longest(), 1), 1);
  const double by_steps =
      options.max_steps > 0 ? static_cast<double>(options.max_steps) * static_cast<double>(of_batch) : infinity;
  const double visits = std::min(by_steps, by_epochs);
  const bool steps_decide = by_steps < by_epochs;
  const std::string decisive = !steps_decide ? fmt::format("{} {}", options.at("schedule.epochs"), options.epochs)
                               : of_batch > kMostVisits
                                   ? options.at(options.batch_key)
                                   : fmt::format("{} {}", options.at("schedule.max_steps"), options.max_steps);
  base::require(visits <= kMostVisits,
                "{} makes a run of {:.4g} examples out of {}, and a plan holds at most {}: lower it", decisive, visits,
                dataset.sequences.size(), kMostVisits);
  const auto bytes = static_cast<std::uint64_t>(visits) * sizeof(std::uint32_t);
  const std::uint64_t available = base::host_memory().available;
  base::require(bytes <= available,
                "{} makes a run of {:.4g} examples, whose order takes {} of memory, and {} are there: lower it",
                decisive, visits, base::format_bytes(bytes), base::format_bytes(available));
}

/// The sequences that one epoch visits, source by source: each floor(weight) times, and once more a random part that
/// makes up the fraction. Without shuffling a source's own order is kept.
std::vector<std::uint32_t> visited(const Dataset& dataset, const BatchOptions& options, std::uint64_t epoch) {
  std::vector<std::vector<std::uint32_t>> by_source(dataset.source_weights.size());
  for (std::size_t i = 0; i < dataset.sequences.size(); ++i) {
    by_source[static_cast<std::size_t>(dataset.sequences[i].source)].push_back(static_cast<std::uint32_t>(i));
  }
  std::vector<std::uint32_t> result;
  for (std::size_t source = 0; source < by_source.size(); ++source) {
    const auto& members = by_source[source];
    if (members.empty()) {
      continue;
    }
    const auto wanted =
        static_cast<std::size_t>(std::llround(dataset.source_weights[source] * static_cast<double>(members.size())));
    const base::Random random(options.seed, base::RandomPurpose::kDataOrder, epoch, kFirstSource + source);
    const base::Permutation permutation(random, members.size());
    for (std::size_t i = 0; i < wanted; ++i) {
      const std::uint64_t index = i % members.size();
      result.push_back(members[options.shuffle ? permutation(index) : index]);
    }
  }
  return result;
}

}  // namespace

BatchPlan::BatchPlan(const Dataset& dataset, const BatchOptions& options) : dataset_(dataset) {
  base::require(!dataset.sequences.empty(), "the training data has no examples");
  base::check((options.batch_sequences > 0) != (options.batch_tokens > 0),
              "a batch is limited by sequences or by tokens");
  base::check(options.epochs > 0 || options.max_steps > 0, "neither epochs nor max_steps is given");
  require_plannable(dataset, options);
  const std::int64_t most_steps = options.max_steps > 0 ? options.max_steps : std::numeric_limits<std::int64_t>::max();
  const double epochs = options.epochs > 0 ? options.epochs : std::numeric_limits<double>::infinity();
  std::size_t position = 0;
  double done = 0;
  while (steps() < most_steps) {
    // One batch: extend the order by epochs as needed.
    std::int64_t sequences = 0, tokens = 0;
    const std::size_t begin = position;
    for (;;) {
      if (position == order_.size() && done < epochs) {
        append_epoch(options, static_cast<std::uint64_t>(done));
        if (const double part = epochs - done; part < 1.0) {
          const auto visits = static_cast<double>(order_.size() - position);
          order_.resize(position + static_cast<std::size_t>(std::llround(part * visits)));
        }
        done += 1;
      }
      if (position == order_.size()) {
        break;
      }
      const std::int64_t length = dataset.sequences[order_[position]].length();
      base::require(options.batch_tokens == 0 || length <= options.batch_tokens,
                    "a sequence of {} tokens does not fit a batch of {} tokens: raise global_batch_tokens or lower "
                    "max_seq_length",
                    length, options.batch_tokens);
      const bool full =
          options.batch_sequences > 0 ? sequences == options.batch_sequences : tokens + length > options.batch_tokens;
      if (full) {
        break;
      }
      ++sequences;
      tokens += length;
      ++position;
    }
    if (position == begin) {
      break;
    }
    ends_.push_back(position);
  }
  base::require(!ends_.empty(), "{} {} of {} examples are less than half an example, so there is no step: raise it",
                options.at("schedule.epochs"), options.epochs, dataset.sequences.size());
}

void BatchPlan::append_epoch(const BatchOptions& options, std::uint64_t epoch) {
  const std::vector<std::uint32_t> members = visited(dataset_, options, epoch);
  base::require(!members.empty(), "an epoch has no examples: the sources' weights are too small");
  base::require(order_.size() <= kMostVisits,
                "{} {} makes a run of more examples than the {} that a plan holds: lower it",
                options.at("schedule.max_steps"), options.max_steps, kMostVisits);
  if (!options.shuffle) {
    order_.insert(order_.end(), members.begin(), members.end());
    return;
  }
  const base::Random random(options.seed, base::RandomPurpose::kDataOrder, epoch, kOverall);
  const base::Permutation permutation(random, members.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    order_.push_back(members[permutation(i)]);
  }
}

std::span<const std::uint32_t> BatchPlan::batch(std::int64_t step) const {
  const auto index = static_cast<std::size_t>(step);
  base::check(step >= 0 && index < ends_.size(), "batch {} of {}", step, ends_.size());
  const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
  return std::span(order_).subspan(begin, ends_[index] - begin);
}

std::uint64_t BatchPlan::fingerprint() const {
  std::uint64_t hash = 0xCBF29CE484222325ull;
  const auto mix = [&](std::uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
    hash ^= hash >> 29;
  };
  for (const std::size_t end : ends_) {
    mix(end);
  }
  for (const std::uint32_t index : order_) {
    mix(index);
  }
  for (const Sequence& sequence : dataset_.sequences) {
    mix(sequence.tokens.size());
    for (std::size_t i = 0; i < sequence.tokens.size(); ++i) {
      mix(static_cast<std::uint64_t>(sequence.tokens[i]) * 2 + sequence.trained[i]);
    }
  }
  return hash;
}

std::vector<nn::PackedTokens> micro_batches(const Dataset& dataset, std::span<const std::uint32_t> batch,
                                            std::int64_t micro_batch_tokens) {
  std::int64_t targets = 0;
  for (const std::uint32_t index : batch) {
    targets += dataset.sequences[index].targets();
  }
  base::check(targets > 0, "a batch without targets");
  const float weight = 1.0f / static_cast<float>(targets);
  std::vector<nn::PackedTokens> result;
  for (const std::uint32_t index : batch) {
    const Sequence& sequence = dataset.sequences[index];
    const auto filled = result.empty() ? 0 : static_cast<std::int64_t>(result.back().tokens.size());
    if (result.empty() || filled + sequence.length() > micro_batch_tokens) {
      result.emplace_back();
    }
    nn::PackedTokens& packed = result.back();
    packed.document_lengths.push_back(sequence.length());
    packed.tokens.insert(packed.tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    for (std::size_t i = 0; i < sequence.tokens.size(); ++i) {
      const bool trained = i + 1 < sequence.tokens.size() && sequence.trained[i + 1] != 0;
      packed.targets.push_back(trained ? sequence.tokens[i + 1] : kernels::kIgnoredTarget);
      packed.weights.push_back(trained ? weight : 0.0f);
    }
  }
  return result;
}

}  // namespace flyover::data
