// The same product by oneDNN, as a peer to compare with.
#pragma once

#include <functional>

#include "kernels/matmul.h"

namespace flyover::bench {

/// A function that runs the product on plain layouts with a primitive created once; empty without oneDNN.
std::function<void()> onednn_product(const kernels::MatMul& product, int threads);

}  // namespace flyover::bench
