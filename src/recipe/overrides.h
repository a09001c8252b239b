// Overrides from the command line: --set path.to.key=value.
#pragma once

#include <string_view>

#include "recipe/yaml.h"

namespace flyover::recipe {

/// Applies "path.to.key=value" to a recipe's document. Elements of lists are "stages[0]" or "stages.0", stages also
/// "stages.NAME"; an empty or null value takes the key out. Throws Error "--set: <path>: ..." for a path that no recipe
/// has, or a value that is not YAML.
void apply_override(Node& root, std::string_view argument);

}  // namespace flyover::recipe
