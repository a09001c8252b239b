// All vector code of the shared attention, in the order in which it builds on itself, after the vectors of an
// instruction set and between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES (see attention_passes.h).
#pragma once

// clang-format off
#include "devices/cpu/attention_product.h"
#include "devices/cpu/attention_pack.h"
#include "devices/cpu/attention_softmax.h"
#include "devices/cpu/shared_attention_tiles.h"
#include "devices/cpu/shared_attention_forward.h"
#include "devices/cpu/shared_attention_backward.h"
// clang-format on

namespace flyover::devices::cpu::shared_attention {

template <class E>
constexpr Code code_of() {
  return {forward_bytes<E>, forward_item<E>, backward_bytes<E>, backward_item<E>, finish_rows<E>};
}

}  // namespace flyover::devices::cpu::shared_attention
