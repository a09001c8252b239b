// Where a recipe's text gives its values, for messages about them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace flyover::recipe {

/// Where each value is given ("recipe.yaml:12", "--set ..."), by path ("stages[0].data"). The whole has the path "".
using Places = std::map<std::string, std::string, std::less<>>;

/// "a.b" or, at the top, "b".
std::string join_path(std::string_view path, std::string_view key);

/// The place of the value with this path, or of the nearest value around it that is given.
std::string place_of(const Places& places, std::string_view path);

/// Where the values of one of the recipe's structs are given. Not part of what a recipe says: all are equal.
struct Origin {
  std::shared_ptr<const Places> places = {};  ///< null = they come from no text
  std::string path = {};                      ///< of the struct

  /// What a message about one of its keys begins with: "recipe.yaml:12: stages[0].batch.global_batch_size", or the key
  /// alone where there is no text.
  std::string at(std::string_view key) const;
  friend bool operator==(const Origin&, const Origin&) { return true; }
};

}  // namespace flyover::recipe
