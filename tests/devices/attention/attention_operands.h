// Operands for tests of attention. All memory ends at an unmapped page, and what nobody has written is NaN, so that
// whatever reads outside the operands crashes or shows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "devices/attention/plain_attention.h"
#include "devices/cpu/instruction_set.h"
#include "kernels/attention.h"

namespace flyover::tests {

/// Bytes of 0xFF (NaN as f32 and as bf16) that end where an unmapped page begins.
class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t bytes);
  GuardedMemory(const GuardedMemory& other);
  ~GuardedMemory();
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  bool operator==(const GuardedMemory& other) const;

 private:
  std::size_t bytes_;
  std::size_t mapping_bytes_;
  std::byte* mapping_;
  std::byte* data_;
};

/// A dense tensor [rows, heads, head_dim] of f32 or bf16; the kernels get ranges of its heads.
class HeadTensor {
 public:
  HeadTensor(kernels::DType dtype, std::int64_t rows, std::int64_t heads, std::int64_t head_dim);
  kernels::View view(std::int64_t first_head, std::int64_t heads) const;
  kernels::View all() const { return view(0, heads_); }
  /// Uniform numbers of mean 0 and deviation 1, a function of (seed, row, head, index) alone, for rows [begin, end)
  /// numbered from `number`.
  void fill(std::uint64_t seed, std::int64_t begin, std::int64_t end, std::int64_t number);
  void fill(std::uint64_t seed) { fill(seed, 0, rows_, 0); }
  void set(std::int64_t row, std::int64_t head, std::int64_t index, float value);
  const GuardedMemory& memory() const { return memory_; }

 private:
  kernels::DType dtype_;
  std::int64_t rows_, heads_, head_dim_;
  GuardedMemory memory_;
};

/// The elements of a view, in row-major order.
std::vector<double> values_of(const kernels::ConstView& view);
/// The same as bits, of rows [begin, begin + count).
std::vector<std::uint32_t> bits_of(const kernels::ConstView& view, std::int64_t begin, std::int64_t count);

/// `sequences` [documents, 4] in guarded memory.
class Sequences {
 public:
  explicit Sequences(const std::vector<std::array<std::int32_t, 4>>& documents);
  kernels::ConstView view() const;

 private:
  std::int64_t documents_;
  GuardedMemory memory_;
};

struct Sizes {
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  kernels::DType dtype;
  float scale;
};
std::string to_string(const Sizes& sizes);

/// Documents of these lengths one after the other, their queries being their keys.
std::vector<std::array<std::int32_t, 4>> packed(const std::vector<std::int32_t>& lengths, std::int32_t first = 0);

/// A training step's operands: q, k, v in one buffer, dq, dk, dv in another.
struct TrainingCase {
  Sizes sizes;
  std::vector<std::array<std::int32_t, 4>> documents;
  Sequences sequences;
  HeadTensor qkv;          ///< [rows, heads + 2 kv_heads, head_dim]
  HeadTensor y;            ///< [rows, heads, head_dim]
  HeadTensor dy;           ///< as y
  HeadTensor gradients;    ///< as qkv
  HeadTensor log_sum_exp;  ///< [rows, heads, 1] f32

  TrainingCase(const Sizes& sizes, std::int64_t rows, const std::vector<std::array<std::int32_t, 4>>& documents);
  kernels::AttentionForward forward() const;
  kernels::AttentionBackward backward() const;
  PlainAttention plain() const;
};

/// Checks and launches with a guarded workspace of exactly the size asked for.
void run(devices::cpu::InstructionSet set, const kernels::AttentionForward& kernel, int threads = 1);
void run(devices::cpu::InstructionSet set, const kernels::AttentionBackward& kernel, int threads = 1);

}  // namespace flyover::tests
