#include "devices/cpu/instruction_set.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <cpuid.h>

#include "base/error.h"

namespace flyover::devices::cpu {
namespace {

constexpr std::array kAll = {InstructionSet::kAvx2, InstructionSet::kAvx512, InstructionSet::kAvx512Bf16};

/// A feature of the processor, and the first set whose kernels are compiled for it.
struct Feature {
  std::string_view name;
  InstructionSet needed_from;
  bool (*is_present)();
};

/// Clang's built-in function does not know this one.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// The built-in function takes nothing but a literal.
#define FLYOVER_FEATURE(name, needed_from)                              \
  Feature {                                                             \
    name, needed_from, [] { return __builtin_cpu_supports(name) != 0; } \
  }

/// What the attributes of the kernels' code name: ours (matmul, attention) and Highway's (HWY_TARGET_STR_AVX2 and
/// HWY_TARGET_STR_AVX3), which let the compiler use each of them anywhere.
constexpr std::array kFeatures = {
    FLYOVER_FEATURE("sse2", InstructionSet::kAvx2),       FLYOVER_FEATURE("ssse3", InstructionSet::kAvx2),
    FLYOVER_FEATURE("sse4.1", InstructionSet::kAvx2),     FLYOVER_FEATURE("sse4.2", InstructionSet::kAvx2),
    FLYOVER_FEATURE("pclmul", InstructionSet::kAvx2),     FLYOVER_FEATURE("aes", InstructionSet::kAvx2),
    FLYOVER_FEATURE("avx", InstructionSet::kAvx2),        FLYOVER_FEATURE("avx2", InstructionSet::kAvx2),
    FLYOVER_FEATURE("bmi", InstructionSet::kAvx2),        FLYOVER_FEATURE("bmi2", InstructionSet::kAvx2),
    FLYOVER_FEATURE("fma", InstructionSet::kAvx2),        Feature{"f16c", InstructionSet::kAvx2, has_f16c},
    FLYOVER_FEATURE("avx512f", InstructionSet::kAvx512),  FLYOVER_FEATURE("avx512vl", InstructionSet::kAvx512),
    FLYOVER_FEATURE("avx512dq", InstructionSet::kAvx512), FLYOVER_FEATURE("avx512bw", InstructionSet::kAvx512),
    FLYOVER_FEATURE("avx512cd", InstructionSet::kAvx512), FLYOVER_FEATURE("avx512bf16", InstructionSet::kAvx512Bf16)};

#undef FLYOVER_FEATURE

bool machine_has(InstructionSet set) {
  __builtin_cpu_init();
  return std::all_of(kFeatures.begin(), kFeatures.end(),
                     [&](const Feature& feature) { return feature.needed_from > set || feature.is_present(); });
}

std::string missing_features(InstructionSet set) {
  std::string text;
  for (const Feature& feature : kFeatures) {
    if (feature.needed_from <= set && !feature.is_present()) {
      text += fmt::format("{}{}", text.empty() ? "" : ", ", feature.name);
    }
  }
  return text;
}

std::string listing(const std::vector<InstructionSet>& sets) {
  std::string text;
  for (const InstructionSet set : sets) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", name_of(set));
  }
  return text;
}

}  // namespace

std::string_view name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512:
      return "avx512";
    case InstructionSet::kAvx512Bf16:
      return "avx512_bf16";
  }
  return "?";
}

std::vector<std::string_view> required_features(InstructionSet set) {
  std::vector<std::string_view> names;
  for (const Feature& feature : kFeatures) {
    if (feature.needed_from <= set) {
      names.push_back(feature.name);
    }
  }
  return names;
}

bool pairs_are_slow() {
  std::array<unsigned, 4> registers{};  // eax, ebx, ecx, edx; the vendor's name is in ebx, edx, ecx
  char vendor[12] = {};
  if (__get_cpuid(0, &registers[0], &registers[1], &registers[2], &registers[3]) != 0) {
    std::memcpy(vendor, &registers[1], 4);
    std::memcpy(vendor + 4, &registers[3], 4);
    std::memcpy(vendor + 8, &registers[2], 4);
  }
  return std::string_view(vendor, sizeof vendor) == "GenuineIntel";
}

std::vector<InstructionSet> available_instruction_sets() {
  const char* const forced = std::getenv("FLYOVER_INSTRUCTION_SET");
  std::vector<InstructionSet> sets, all;
  for (const InstructionSet set : kAll) {
    if (machine_has(set)) {
      all.push_back(set);
      if (forced == nullptr || *forced == '\0' || name_of(set) == forced) {
        sets.push_back(set);
      }
    }
  }
  if (sets.size() > 1 && sets.back() == InstructionSet::kAvx512Bf16 && pairs_are_slow()) {
    std::swap(sets[sets.size() - 1], sets[sets.size() - 2]);
  }
  base::require(all.empty() || !sets.empty(), "FLYOVER_INSTRUCTION_SET=\"{}\": this machine has {}",
                forced == nullptr ? "" : forced, listing(all));
  base::require(!sets.empty(), "the CPU device needs a processor with AVX2 and what comes with it; this one lacks {}",
                missing_features(InstructionSet::kAvx2));
  return sets;
}

InstructionSet choose_instruction_set(std::string_view name) {
  const std::vector<InstructionSet> sets = available_instruction_sets();
  if (name.empty()) {
    return sets.back();
  }
  for (const InstructionSet set : sets) {
    if (name_of(set) == name) {
      return set;
    }
  }
  base::fail("instruction set \"{}\": this machine has {}", name, listing(sets));
}

}  // namespace flyover::devices::cpu
