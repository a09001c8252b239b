// The words that stand for the values of the recipe's enumerations.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/error.h"
#include "recipe/recipe.h"
#include "recipe/yaml.h"

namespace flyover::recipe {

/// A value's word; further words of the same value are other systems' names for it.
struct Choice {
  int value = 0;
  std::string_view name;
};

std::span<const Choice> choices_of(DeviceKind);
std::span<const Choice> choices_of(InstructionSet);
std::span<const Choice> choices_of(Precision);
std::span<const Choice> choices_of(Algorithm);
std::span<const Choice> choices_of(Recompute);
std::span<const Choice> choices_of(OnNonfinite);
std::span<const Choice> choices_of(QuantisationAware);
std::span<const Choice> choices_of(OptimizerName);
std::span<const Choice> choices_of(StateType);
std::span<const Choice> choices_of(OnLossSpike);
std::span<const Choice> choices_of(Decay);
std::span<const Choice> choices_of(Overlong);
std::span<const Choice> choices_of(TrainOn);
std::span<const Choice> choices_of(SourceFormat);

/// "one of cosine, linear, constant", without the other systems' names.
std::string choice_names(std::span<const Choice> choices);

/// The value of a scalar's word. Throws Error with the nearest word.
int read_choice(const Node& node, std::string_view path, std::span<const Choice> choices);

/// The word of a value, as recipes write it.
template <typename Enum>
requires std::is_enum_v<Enum> std::string_view name_of(Enum value) {
  for (const Choice& choice : choices_of(value)) {
    if (choice.value == static_cast<int>(value)) {
      return choice.name;
    }
  }
  throw base::InternalError("recipe: a value of an enumeration without a name");
}

}  // namespace flyover::recipe
