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

/// Features of the processor that a set stands for, as compilers name them: all that its kernels are compiled for.
std::vector<std::string_view> required_features(InstructionSet set);

/// Whether this processor multiplies pairs of bf16 at half the speed of single f32, so that kAvx512 trains faster than
/// kAvx512Bf16 in bf16 as well: seen on Emerald Rapids (docs/performance.md) and
/// taken for all of Intel's; AMD's do not. Goes by the vendor, not by a
/// measurement: a machine must choose the same every time, for the same bits.
bool pairs_are_slow();

/// The instruction sets of this machine, the fastest last; where the environment variable FLYOVER_INSTRUCTION_SET names
/// one, only that (for tests: the machine shall pass for one that has no other). Throws Error on a machine that lacks a
/// feature of the first, naming it, and where the named one is unknown or missing.
std::vector<InstructionSet> available_instruction_sets();

/// The named one, or the best available where `name` is empty. Throws Error if the name is unknown or the machine does
/// not have it.
InstructionSet choose_instruction_set(std::string_view name);

}  // namespace flyover::devices::cpu
