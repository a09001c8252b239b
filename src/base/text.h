// Small helpers for messages: the nearest known word, sizes and counts as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace flyover::base {

/// The candidate with the smallest edit distance (Levenshtein, with transpositions) to `word`, or an empty view if none
/// is near: more than a third of the longer word would have to change.
std::string_view nearest(std::string_view word, std::span<const std::string> candidates);

/// " (did you mean \"x\"?)" for the nearest candidate, or an empty string.
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

/// 1536 -> "1.50 KiB"; binary units up to TiB.
std::string format_bytes(std::uint64_t bytes);

/// 1234567 -> "1,234,567".
std::string format_count(std::int64_t count);

/// "2026-01-31" -> the seconds from 1970 to its midnight, UTC. Nothing if it is not a date of that form.
std::optional<std::int64_t> parse_date(std::string_view text);

/// 3725.0 -> "1h02m05s", 42.3 -> "42s".
std::string format_duration(double seconds);

}  // namespace flyover::base
