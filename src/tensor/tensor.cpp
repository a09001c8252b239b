#include "tensor/tensor.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/format_view.h"

namespace flyover::tensor {

Storage::Storage(Allocator& allocator, std::size_t bytes, MemoryKind kind, devices::StreamId stream)
    : allocator_(allocator), block_(allocator.allocate(bytes, kind, stream)) {}

Storage::~Storage() {
  allocator_.release(block_, used_by_);
}

void Storage::used_on(devices::StreamId stream) {
  if (std::find(used_by_.begin(), used_by_.end(), stream) == used_by_.end()) {
    used_by_.push_back(stream);
  }
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t count) const {
  return {storage_, kernels::slice_rows(view_, begin, count)};
}

Tensor Tensor::columns(std::int64_t begin, std::int64_t count) const {
  return {storage_, kernels::slice_last(view_, begin, count)};
}

Tensor Tensor::reshape(const Dims& shape) const {
  base::check(view_.is_dense() && shape.elements() == elements(), "cannot see {} as {}", kernels::ConstView(view_),
              shape);
  return {storage_, View{view_.data, view_.dtype, shape, kernels::dense_strides(shape)}};
}

Tensor Tensor::split_last(std::int64_t first, std::int64_t second) const {
  return {storage_, kernels::split_last(view_, first, second)};
}

}  // namespace flyover::tensor
