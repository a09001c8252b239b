#include "posttrain/parameter_groups.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"
#include "posttrain/preflight.h"
#include "trainer/step.h"

namespace flyover::posttrain {
namespace {

/// `pattern` with * for any characters, each of which takes as few as the next part of the pattern allows.
bool matches(std::string_view text, std::string_view pattern) {
  std::size_t at = 0, next = 0;
  std::size_t after_star = std::string_view::npos, star_end = 0;  // the last *: what follows it, where it ends now
  while (at < text.size()) {
    if (next < pattern.size() && pattern[next] == '*') {
      after_star = ++next;
      star_end = at;
    } else if (next < pattern.size() && pattern[next] == text[at]) {
      ++next;
      ++at;
    } else if (after_star != std::string_view::npos) {
      next = after_star;
      at = ++star_end;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', next) == std::string_view::npos;
}

/// Whether the pattern is for this parameter: by the names of all the checkpoint's tensors in it, or by its own. Throws
/// Error where it is for some of those tensors only, because they share a storage and an update.
/// `group` names the pattern's place in messages.
bool matches_parameter(const autograd::ParameterSpec& spec, const std::string& pattern, std::string_view group) {
  const autograd::CheckpointSlice* in = nullptr;
  const autograd::CheckpointSlice* out = nullptr;
  for (const autograd::CheckpointSlice& slice : spec.slices) {
    (matches(slice.name, pattern) ? in : out) = &slice;
  }
  if (in == nullptr || out == nullptr) {
    return in != nullptr || matches(spec.name, pattern);
  }
  base::fail(
      "{}: the pattern \"{}\" matches {} but not {}, and both are part of one parameter, {}: use one that matches all",
      group, pattern, in->name, out->name, spec.name);
}

}  // namespace

ParameterDecisions decide_parameters(const autograd::ParameterSet& parameters, const recipe::Stage& stage) {
  const recipe::Optimizer& optimizer = stage.optimizer;
  const auto place_of = [&](std::size_t group) {
    return stage.origin.at(fmt::format("optimizer.parameter_groups[{}]", group));
  };
  const trainer::AuxiliaryOptions auxiliary = step_options(stage).auxiliary;
  ParameterDecisions decisions;
  std::vector<bool> used(optimizer.parameter_groups.size(), false);
  for (const autograd::Parameter& parameter : parameters.all()) {
    const autograd::ParameterRole role = parameter.spec.role;
    const bool decays = role != autograd::ParameterRole::kNorm && role != autograd::ParameterRole::kBias;
    optim::ParameterSettings settings{optimizer.learning_rate, decays ? optimizer.weight_decay : 0.0};
    // What no gradient of this stage reaches must not be moved by weight decay either.
    bool frozen = !trainer::is_reached(parameter.spec, auxiliary);
    for (std::size_t i = 0; i < optimizer.parameter_groups.size(); ++i) {
      const recipe::ParameterGroup& group = optimizer.parameter_groups[i];
      if (matches_parameter(parameter.spec, group.pattern, place_of(i))) {
        used[i] = true;
        settings.learning_rate = group.learning_rate.value_or(settings.learning_rate);
        settings.weight_decay = group.weight_decay.value_or(settings.weight_decay);
        frozen = frozen || group.frozen;
        if (group.optimizer) {
          settings.as_matrix = *group.optimizer == recipe::OptimizerName::kMuon;
          base::require(!*settings.as_matrix || parameter.spec.shape.rank() >= 2,
                        "{}: optimizer is muon, but {} is no matrix (its shape is {})", place_of(i),
                        parameter.spec.name, kernels::to_string(parameter.spec.shape));
        }
        break;
      }
    }
    decisions.settings.push_back(settings);
    decisions.frozen.push_back(frozen);
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    base::require(used[i], "{}: the pattern \"{}\" matches no parameter (for example {})", place_of(i),
                  optimizer.parameter_groups[i].pattern, parameters.all().back().spec.name);
  }
  base::require(!std::all_of(decisions.frozen.begin(), decisions.frozen.end(), [](bool frozen) { return frozen; }),
                "{}: every parameter is frozen", stage.origin.at("optimizer.parameter_groups"));
  return decisions;
}

}  // namespace flyover::posttrain
