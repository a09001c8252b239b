// Which vector instructions the CPU device uses.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace flyover::devices::cpu {

/// Vector instruction sets in rising order; each machine that has one has those before it.
enum class InstructionSet { kAvx2, kAvx512, kAvx512Bf16 };

/// "avx2", "avx512", "avx512_bf16".
std::string_view name_of(InstructionSet set);

/// The instruction sets of this machine, best last. Throws Error on a machine without AVX2 and FMA.
std::vector<InstructionSet> available_instruction_sets();

/// The named one, or the best available where `name` is empty. Throws Error if the name is unknown or the machine does
/// not have it.
InstructionSet choose_instruction_set(std::string_view name);

}  // namespace flyover::devices::cpu
