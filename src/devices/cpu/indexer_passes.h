// All vector code of the indexer, in the order in which it builds on itself, after the vectors of an instruction set
// and between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES (see attention_passes.h).
#pragma once

// clang-format off
#include "devices/cpu/attention_product.h"
#include "devices/cpu/attention_pack.h"
#include "devices/cpu/attention_softmax.h"
#include "devices/cpu/shared_attention_tiles.h"
#include "devices/cpu/indexer_selection.h"
#include "devices/cpu/indexer_select.h"
#include "devices/cpu/indexer_loss.h"
// clang-format on

namespace flyover::devices::cpu::indexer {

template <class E>
constexpr Code code_of() {
  using Wide = attention::Engine<typename E::Isa, typename E::Element, false>;
  return {select_bytes<E>,
          select_item<E>,
          target_bytes<E>,
          target_item<E>,
          loss_bytes<Wide>,
          loss_item<Wide>,
          shared_attention::finish_rows<Wide>};
}

}  // namespace flyover::devices::cpu::indexer
