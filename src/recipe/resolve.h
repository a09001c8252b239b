// What the lists of keys cannot say: conditions between keys, and defaults that depend on other keys.
#pragma once

#include "recipe/schema.h"

namespace flyover::recipe {

/// For messages about a struct's keys.
struct Where {
  const Places& places;
  std::string path;

  Where below(std::string_view key) const { return {places, join_path(path, key)}; }
  Where element(std::string_view key, std::size_t index) const {
    return {places, fmt::format("{}[{}]", join_path(path, key), index)};
  }
  /// "recipe.yaml:12": where `key` is given, or the nearest value around it.
  std::string place(std::string_view key) const;
  /// Throws Error "<place>: <path of the key>: <message>" unless the condition holds.
  void require(bool condition, std::string_view key, std::string_view message) const;
  /// Throws Error unless exactly one of both keys is given.
  void require_one(bool has_first, std::string_view first, bool has_second, std::string_view second) const;
  /// Throws Error if both keys are given.
  void require_not_both(bool has_first, std::string_view first, bool has_second, std::string_view second) const;
};

/// Checks the recipe as a whole and fills in the defaults that depend on other keys. Throws Error.
void resolve(Recipe& recipe, const Places& places);

/// The same for a stage's data.
void resolve_data(Data& data, Algorithm algorithm, const Where& where);

}  // namespace flyover::recipe
