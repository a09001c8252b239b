// Free-form mappings of a recipe (a model's config) as JSON.
#pragma once

#include <string>
#include <string_view>

#include "recipe/yaml.h"

namespace flyover::recipe {

/// A mapping as the text of a JSON object. Unquoted scalars are null, booleans and decimal numbers as in JSON, all
/// others strings. Throws Error if the node is not a mapping, or for more than 4096 keys in one.
std::string json_text(const Node& node, std::string_view path);

/// The document of a JSON text; json_text gives the same JSON back. Throws Error if it is not JSON.
Node json_node(std::string_view text);

}  // namespace flyover::recipe
