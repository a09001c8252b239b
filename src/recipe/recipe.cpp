#include "recipe/recipe.h"

#include <memory>

#include <fmt/core.h>

#include "base/files.h"
#include "recipe/overrides.h"
#include "recipe/resolve.h"
#include "recipe/schema.h"

namespace flyover::recipe {

Recipe parse_recipe(std::string_view text, std::string_view source, std::span<const std::string> overrides) {
  Node root = parse_yaml(text, source);
  if (root.kind != Node::Kind::kMapping) {
    refuse(root, "", "a mapping");
  }
  for (const std::string& override : overrides) {
    apply_override(root, override);
  }
  const auto places = std::make_shared<Places>();
  Recipe recipe = Codec<Recipe>::read(root, "", {}, *places);
  resolve(recipe, *places);
  recipe.origin = {places, ""};
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    recipe.stages[i].origin = {places, fmt::format("stages[{}]", i)};
  }
  return recipe;
}

Recipe read_recipe(const std::filesystem::path& path, std::span<const std::string> overrides) {
  return parse_recipe(base::read_file(path), path.string(), overrides);
}

std::string write_recipe(const Recipe& recipe) {
  return write_yaml(Codec<Recipe>::write(recipe));
}

}  // namespace flyover::recipe
