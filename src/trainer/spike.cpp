#include "trainer/spike.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

namespace flyover::trainer {
namespace {

/// The least deviation of losses that counts, as a fraction of their mean.
constexpr double kLeastDeviation = 0.01;

}  // namespace

bool is_spike(double loss, std::span<const double> recent, const SpikeOptions& options) {
  if (!std::isfinite(loss)) {
    return true;
  }
  if (recent.size() < static_cast<std::size_t>(options.window)) {
    return false;
  }
  double mean = 0;
  for (const double value : recent) {
    mean += value / static_cast<double>(recent.size());
  }
  double variance = 0;
  for (const double value : recent) {
    variance += (value - mean) * (value - mean) / static_cast<double>(recent.size());
  }
  return loss > mean + options.deviations * std::max(std::sqrt(variance), kLeastDeviation * std::abs(mean));
}

void remember(double loss, std::vector<double>& recent, std::int64_t window) {
  recent.push_back(loss);
  if (recent.size() > static_cast<std::size_t>(window)) {
    recent.erase(recent.begin());
  }
}

std::vector<nn::PackedTokens> AnticipatoryRouting::micro_batches(std::int64_t step) const {
  return data::micro_batches(plan_.dataset(), plan_.batch(step), micro_batch_tokens_);
}

void AnticipatoryRouting::begin(const Period& period) {
  period_ = period;
  chosen_.clear();
}

void AnticipatoryRouting::look_ahead(std::int64_t step) {
  const std::int64_t target = step + period_.delay;
  if (step >= period_.first && target < std::min(period_.end, plan_.steps()) && !chosen_.contains(target)) {
    chosen_[target] = choose_experts(model_, stream_, micro_batches(target), options_);
  }
}

const StepChoices* AnticipatoryRouting::experts_of(std::int64_t step) const {
  const auto found = chosen_.find(step);
  return found == chosen_.end() ? nullptr : &found->second;
}

void AnticipatoryRouting::restore(const Period& period, std::int64_t step) {
  begin(period);
  const std::int64_t end = std::min({period.end, plan_.steps(), step + period.delay});
  for (std::int64_t target = std::max(step, period.first + period.delay); target < end; ++target) {
    chosen_[target] = empty_choices(model_, stream_, micro_batches(target));
  }
}

std::vector<optim::StateTensor> AnticipatoryRouting::state() const {
  std::vector<optim::StateTensor> result;
  for (const auto& [step, micro_batches] : chosen_) {
    for (std::size_t i = 0; i < micro_batches.size(); ++i) {
      for (std::size_t mixture = 0; mixture < micro_batches[i].size(); ++mixture) {
        result.push_back({fmt::format("routing/{}/{}/{}", step, i, mixture), micro_batches[i][mixture]});
      }
    }
  }
  return result;
}

}  // namespace flyover::trainer
