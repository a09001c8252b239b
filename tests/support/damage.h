// Damaged texts and JSON values for fuzzing parsers.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"

namespace flyover::tests {

/// One to three random changes, or an end cut off; mostly bytes that occur in the text, which get deeper into parsers.
inline std::string damaged(const std::string& original, std::uint64_t round) {
  const base::Random random(17, base::RandomPurpose::kTest, round);
  using namespace std::string_view_literals;
  constexpr std::string_view kCharacters = "0123456789-.eE{}[],:\" \\ux\0\xFF"sv;
  std::string text = original;
  const std::uint64_t changes = 1 + random.below(0, 3);
  for (std::uint64_t i = 0; i < changes && !text.empty(); ++i) {
    const std::size_t place = random.below(10 * i + 1, text.size());
    const char listed = kCharacters[random.below(10 * i + 2, kCharacters.size())];
    switch (random.below(10 * i + 3, 6)) {
      case 0:
        text[place] = static_cast<char>(static_cast<unsigned char>(text[place]) ^ (1u << random.below(10 * i + 4, 8)));
        break;
      case 1:
        text[place] = static_cast<char>(random.below(10 * i + 4, 256));
        break;
      case 2:
        text.insert(place, 1, listed);
        break;
      case 3:
        text.erase(place, 1 + random.below(10 * i + 4, 4));
        break;
      case 4:
        text.resize(random.below(10 * i + 4, 8) == 0 ? place : text.size());
        break;
      default:
        text[place] = listed;
    }
  }
  return text;
}

/// Replaces a random value within `value` by one of `others`, so that the syntax stays valid.
template <typename Json>
void change_value(Json& value, const base::Random& random, const std::vector<Json>& others, std::uint64_t depth = 0) {
  if (value.is_structured() && !value.empty() && random.below(3 * depth, 8) != 0) {
    auto member = value.begin();
    std::advance(member, random.below(3 * depth + 1, value.size()));
    change_value(*member, random, others, depth + 1);
    return;
  }
  value = others[random.below(3 * depth + 2, others.size())];
}

}  // namespace flyover::tests
