// All of attention's vector code, in the order in which it builds on itself, after the vectors of an instruction set
// and between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES. The headers name no general header, which would be compiled
// for the wrong machine, and everything in them is a template on the instruction set.
#pragma once

// clang-format off
#include "devices/cpu/attention_product.h"
#include "devices/cpu/attention_pack.h"
#include "devices/cpu/attention_softmax.h"
#include "devices/cpu/attention_forward.h"
#include "devices/cpu/attention_backward.h"
// clang-format on

namespace flyover::devices::cpu::attention {

template <class E>
constexpr Code code_of() {
  return {forward_bytes<E>, forward_item<E>, backward_bytes<E>, backward_item<E>, finish_keys<E>};
}

}  // namespace flyover::devices::cpu::attention
