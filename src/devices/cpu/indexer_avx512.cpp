// The indexer compiled for AVX-512.
// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

#include <hwy/base.h>
#include <immintrin.h>

#include "devices/cpu/indexer_code.h"

HWY_PUSH_ATTRIBUTES("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")
#include "devices/cpu/attention_avx512.h"
#include "devices/cpu/indexer_passes.h"
HWY_POP_ATTRIBUTES

namespace flyover::devices::cpu::indexer {

const Code kAvx512F32 = code_of<attention::Engine<attention::Avx512, float, false>>();
const Code kAvx512Bf16 = code_of<attention::Engine<attention::Avx512, kernels::Bf16, false>>();

}  // namespace flyover::devices::cpu::indexer
