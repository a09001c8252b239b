#include "recipe/origin.h"

#include "base/error.h"

namespace flyover::recipe {

std::string join_path(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

std::string place_of(const Places& places, std::string_view path) {
  for (std::string_view at = path;;) {
    if (const auto found = places.find(at); found != places.end()) {
      return found->second;
    }
    base::check(!at.empty(), "recipe: no place for {}", path);
    const std::size_t end = at.find_last_of(".[");
    at = at.substr(0, end == std::string_view::npos ? 0 : end);
  }
}

std::string Origin::at(std::string_view key) const {
  const std::string whole = join_path(path, key);
  return places == nullptr ? whole : fmt::format("{}: {}", place_of(*places, whole), whole);
}

}  // namespace flyover::recipe
