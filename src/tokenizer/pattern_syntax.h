// From the regular expressions of tokenizer.json (Oniguruma, Ruby syntax) to those of PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace flyover::tokenizer {

/// The property White_Space, general punctuation of words and other sets that the two libraries define differently, as
/// contents of a character class in PCRE2 syntax.
extern const std::string_view kWhiteSpaceClass;
extern const std::string_view kWordClass;

/// The same pattern for PCRE2 with PCRE2_UTF | PCRE2_MULTILINE and without PCRE2_UCP. `\s`, `\w`, `\b`, `\d`, `\h`,
/// `\v` and scripts are spelled out, because the two libraries disagree on them. Throws Error naming `where`, the
/// pattern and the construct where the meaning would differ (set intersections, nested sets, interval possessives,
/// ...).
std::string to_pcre2_syntax(std::string_view pattern, std::string_view where);

}  // namespace flyover::tokenizer
