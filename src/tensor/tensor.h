// Tensors: typed, shaped, reference-counted device memory.
#pragma once

#include <memory>
#include <vector>

#include "kernels/view.h"
#include "tensor/allocator.h"

namespace flyover::tensor {

using kernels::ConstView;
using kernels::Dims;
using kernels::DType;
using kernels::View;

/// Device memory owned by one or more tensors; given back in stream order when the last one goes.
class Storage {
 public:
  Storage(Allocator& allocator, std::size_t bytes, MemoryKind kind, devices::StreamId stream);
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  void* address() const { return Allocator::address(block_); }
  /// Another stream has work on this memory; it will not be reused before that is done.
  void used_on(devices::StreamId stream);

 private:
  Allocator& allocator_;
  Allocator::Block* block_;
  std::vector<devices::StreamId> used_by_;
};

/// A view of a storage. Copies share the storage. A default-constructed tensor is undefined.
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Storage> storage, const View& view) : storage_(std::move(storage)), view_(view) {}

  bool defined() const { return storage_ != nullptr; }
  const Dims& shape() const { return view_.shape; }
  std::int64_t size(int axis) const { return view_.size(axis); }
  std::int64_t elements() const { return view_.elements(); }
  DType dtype() const { return view_.dtype; }
  std::uint64_t bytes() const { return view_.bytes(); }

  /// The operand that kernels get. The tensor (or a copy) must live until the kernel has been launched.
  const View& view() const { return view_; }
  ConstView const_view() const { return view_; }
  /// Whether nobody else shares the storage, so that writing in place is seen by nobody.
  bool is_only_owner() const { return storage_.use_count() == 1; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  /// Rows [begin, begin + count) of the first axis; shares the storage.
  Tensor rows(std::int64_t begin, std::int64_t count) const;
  /// Elements [begin, begin + count) of the last axis; shares the storage.
  Tensor columns(std::int64_t begin, std::int64_t count) const;
  /// Another shape of the same elements; the tensor must be dense. Throws InternalError otherwise.
  Tensor reshape(const Dims& shape) const;
  /// The last axis seen as [first, second]; shares the storage.
  Tensor split_last(std::int64_t first, std::int64_t second) const;

 private:
  std::shared_ptr<Storage> storage_;
  View view_;
};

}  // namespace flyover::tensor
