#include "tokenizer/unicode_tables.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

namespace flyover::tokenizer {
namespace {

struct CombiningClassRun {
  char32_t first, last;
  std::uint8_t combining_class;
};
struct CanonicalMapping {
  char32_t code_point, first, second;
};
struct LowerCaseRun {
  char32_t first, last, step;
  std::int32_t difference;
};
struct CodePointRange {
  char32_t first, last;
};
struct CompatibilityRun {
  char32_t first, last, target;
};
struct CompatibilityMapping {
  char32_t code_point;
  std::uint32_t length;
};

#include "tokenizer/unicode_canonical.inc"
#include "tokenizer/unicode_compatibility.inc"

constexpr char32_t kCodePoints = 0x110000;

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11A7;
constexpr char32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28;
constexpr char32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

bool is_syllable(char32_t code_point) {
  return code_point >= kSyllables && code_point < kSyllables + kSyllableCount;
}

/// The entry of a table of disjoint ascending ranges that contains the code point, or null.
template <typename Range, std::size_t size>
const Range* find_range(const Range (&table)[size], char32_t code_point) {
  const Range* next = std::upper_bound(std::begin(table), std::end(table), code_point,
                                       [](char32_t value, const Range& range) { return value < range.first; });
  if (next == std::begin(table) || std::prev(next)->last < code_point) {
    return nullptr;
  }
  return std::prev(next);
}

template <typename Mapping, std::size_t size>
const Mapping* find_mapping(const Mapping (&table)[size], char32_t code_point) {
  const Mapping* found =
      std::lower_bound(std::begin(table), std::end(table), code_point,
                       [](const Mapping& mapping, char32_t value) { return mapping.code_point < value; });
  return found != std::end(table) && found->code_point == code_point ? found : nullptr;
}

/// Where the targets of each entry of kCompatibilityMappings start in the pool.
std::vector<std::size_t> pool_offsets() {
  std::vector<std::size_t> offsets;
  std::size_t offset = 0;
  for (const CompatibilityMapping& mapping : kCompatibilityMappings) {
    offsets.push_back(offset);
    offset += mapping.length;
  }
  return offsets;
}

bool append_compatibility(std::u32string& text, char32_t code_point) {
  if (const CompatibilityRun* run = find_range(kCompatibilityRuns, code_point)) {
    text.push_back(run->target + (code_point - run->first));
    return true;
  }
  static const std::vector<std::size_t> offsets = pool_offsets();
  if (const CompatibilityMapping* mapping = find_mapping(kCompatibilityMappings, code_point)) {
    const std::size_t index = static_cast<std::size_t>(mapping - std::begin(kCompatibilityMappings));
    text.append(kCompatibilityPool + offsets[index], mapping->length);
    return true;
  }
  return false;
}

std::uint64_t pair_key(char32_t first, char32_t second) {
  return (static_cast<std::uint64_t>(first) << 32) | second;
}

std::unordered_map<std::uint64_t, char32_t> composition_pairs() {
  std::unordered_map<std::uint64_t, char32_t> pairs;
  for (const CanonicalMapping& mapping : kCanonicalMappings) {
    const bool excluded =
        std::binary_search(std::begin(kCompositionExclusions), std::end(kCompositionExclusions), mapping.code_point);
    if (mapping.second != 0 && !excluded) {
      pairs.emplace(pair_key(mapping.first, mapping.second), mapping.code_point);
    }
  }
  return pairs;
}

/// Which code points can join one before them: marks and, in composed forms, seconds of composed pairs.
std::vector<bool> joining_code_points(bool composed) {
  std::vector<bool> joins(kCodePoints);
  for (const CombiningClassRun& run : kCombiningClasses) {
    std::fill(joins.begin() + run.first, joins.begin() + run.last + 1, true);
  }
  if (composed) {
    for (const CanonicalMapping& mapping : kCanonicalMappings) {
      joins[mapping.second] = joins[mapping.second] || mapping.second != 0;
    }
    std::fill_n(joins.begin() + kVowels, kVowelCount, true);
    std::fill_n(joins.begin() + kTrailing, kTrailingCount, true);
  }
  return joins;
}

FormTable make_form_table(bool compatibility, bool composed) {
  FormTable table;
  table.flags.assign(kCodePoints, FormTable::kBoundary);
  const std::vector<bool> joins = joining_code_points(composed);
  for (char32_t code_point = 0; code_point < kCodePoints; ++code_point) {
    table.flags[code_point] = joins[code_point] ? 0 : FormTable::kBoundary;
  }
  std::u32string canonical, full;
  const auto set_decomposable = [&](char32_t code_point, bool composes_back) {
    canonical.clear();
    full.clear();
    append_decomposition(canonical, code_point, false);
    append_decomposition(full, code_point, compatibility);
    const bool changes = !(composed && composes_back && canonical == full);
    table.flags[code_point] =
        static_cast<std::uint8_t>((joins[full[0]] ? 0 : FormTable::kBoundary) | (changes ? FormTable::kChanges : 0));
  };
  for (const CanonicalMapping& mapping : kCanonicalMappings) {
    set_decomposable(mapping.code_point, compose(mapping.first, mapping.second) == mapping.code_point);
  }
  for (char32_t syllable = kSyllables; syllable < kSyllables + kSyllableCount; ++syllable) {
    set_decomposable(syllable, true);
  }
  if (compatibility) {
    for (const CompatibilityRun& run : kCompatibilityRuns) {
      for (char32_t code_point = run.first; code_point <= run.last; ++code_point) {
        set_decomposable(code_point, false);
      }
    }
    for (const CompatibilityMapping& mapping : kCompatibilityMappings) {
      set_decomposable(mapping.code_point, false);
    }
  }
  return table;
}

}  // namespace

std::uint8_t combining_class(char32_t code_point) {
  if (code_point < kCombiningClasses[0].first) {
    return 0;
  }
  const CombiningClassRun* run = find_range(kCombiningClasses, code_point);
  return run == nullptr ? 0 : run->combining_class;
}

void append_decomposition(std::u32string& text, char32_t code_point, bool compatibility) {
  if (code_point < 0xA0) {
    text.push_back(code_point);
  } else if (is_syllable(code_point)) {
    const char32_t index = code_point - kSyllables;
    text.push_back(kLeading + index / (kVowelCount * kTrailingCount));
    text.push_back(kVowels + index % (kVowelCount * kTrailingCount) / kTrailingCount);
    if (index % kTrailingCount != 0) {
      text.push_back(kTrailing + index % kTrailingCount);
    }
  } else if (compatibility && append_compatibility(text, code_point)) {
    return;
  } else if (const CanonicalMapping* mapping = find_mapping(kCanonicalMappings, code_point)) {
    append_decomposition(text, mapping->first, compatibility);
    if (mapping->second != 0) {
      append_decomposition(text, mapping->second, compatibility);
    }
  } else {
    text.push_back(code_point);
  }
}

char32_t compose(char32_t first, char32_t second) {
  if (first >= kLeading && first < kLeading + kLeadingCount && second >= kVowels && second < kVowels + kVowelCount) {
    return kSyllables + ((first - kLeading) * kVowelCount + (second - kVowels)) * kTrailingCount;
  }
  if (is_syllable(first) && (first - kSyllables) % kTrailingCount == 0 && second > kTrailing &&
      second < kTrailing + kTrailingCount) {
    return first + (second - kTrailing);
  }
  static const std::unordered_map<std::uint64_t, char32_t> pairs = composition_pairs();
  const auto found = pairs.find(pair_key(first, second));
  return found == pairs.end() ? 0 : found->second;
}

const FormTable& form_table(NormalizationForm form) {
  switch (form) {
    case NormalizationForm::kNfc: {
      static const FormTable table = make_form_table(false, true);
      return table;
    }
    case NormalizationForm::kNfd: {
      static const FormTable table = make_form_table(false, false);
      return table;
    }
    case NormalizationForm::kNfkc: {
      static const FormTable table = make_form_table(true, true);
      return table;
    }
    default: {
      static const FormTable table = make_form_table(true, false);
      return table;
    }
  }
}

bool is_nonspacing_mark(char32_t code_point) {
  return find_range(kNonspacingMarks, code_point) != nullptr;
}

char32_t to_lower(char32_t code_point) {
  if (code_point < 0x80) {
    return code_point >= 'A' && code_point <= 'Z' ? code_point + 0x20 : code_point;
  }
  if (code_point == 0x130) {
    return 'i';
  }
  const LowerCaseRun* run = find_range(kLowerCase, code_point);
  if (run == nullptr || (code_point - run->first) % run->step != 0) {
    return code_point;
  }
  return static_cast<char32_t>(static_cast<std::int32_t>(code_point) + run->difference);
}

}  // namespace flyover::tokenizer
