#include "devices/cpu/instruction_set.h"

#include <array>
#include <string>

#include "base/error.h"

namespace flyover::devices::cpu {
namespace {

constexpr std::array kAll = {InstructionSet::kAvx2, InstructionSet::kAvx512, InstructionSet::kAvx512Bf16};

bool machine_has(InstructionSet set) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  switch (set) {
    case InstructionSet::kAvx2:
      return avx2;
    case InstructionSet::kAvx512:
      return avx512;
    case InstructionSet::kAvx512Bf16:
      return avx512 && __builtin_cpu_supports("avx512bf16");
  }
  return false;
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

std::vector<InstructionSet> available_instruction_sets() {
  std::vector<InstructionSet> sets;
  for (const InstructionSet set : kAll) {
    if (machine_has(set)) {
      sets.push_back(set);
    }
  }
  base::require(!sets.empty(), "the CPU device needs AVX2 and FMA, which this machine does not have");
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
