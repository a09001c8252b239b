// The "post_processor" of a tokenizer document: the tokens that stand before and behind a text.
#pragma once

#include <cstdint>
#include <vector>

#include "tokenizer/document.h"

namespace flyover::tokenizer {

struct PostProcessor {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};

/// Reads TemplateProcessing (its template for a single text), ByteLevel (which only moves offsets) and sequences of
/// them. Throws Error naming component and path.
PostProcessor read_post_processor(const Node& node);

}  // namespace flyover::tokenizer
