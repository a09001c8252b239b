// The indexer compiled for AVX2 and FMA.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

#include <hwy/base.h>
#include <immintrin.h>

#include "devices/cpu/indexer_code.h"

HWY_PUSH_ATTRIBUTES("avx2,fma")
#include "devices/cpu/attention_avx2.h"
#include "devices/cpu/indexer_passes.h"
HWY_POP_ATTRIBUTES

namespace flyover::devices::cpu::indexer {

const Code kAvx2F32 = code_of<attention::Engine<attention::Avx2, float, false>>();
const Code kAvx2Bf16 = code_of<attention::Engine<attention::Avx2, kernels::Bf16, false>>();

}  // namespace flyover::devices::cpu::indexer
