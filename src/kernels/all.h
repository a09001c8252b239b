// The list of all kernels. A new kernel is added here and in the tables of the devices that have it.
#pragma once

#include <cstddef>
#include <type_traits>

#include "kernels/attention.h"
#include "kernels/compressor.h"
#include "kernels/elementwise.h"
#include "kernels/experts.h"
#include "kernels/heads.h"
#include "kernels/hyper_connection.h"
#include "kernels/indexer.h"
#include "kernels/loss.h"
#include "kernels/matmul.h"
#include "kernels/mlp.h"
#include "kernels/muon.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/quantisation.h"
#include "kernels/rope.h"
#include "kernels/router.h"
#include "kernels/rows.h"
#include "kernels/sample.h"
#include "kernels/shared_attention.h"

namespace flyover::kernels {

template <typename... Kernels>
struct KernelList {
  static constexpr std::size_t kCount = sizeof...(Kernels);
};

using AllKernels =
    KernelList<MatMul, RmsNormForward, RmsNormBackward, RmsNormWeightGradient, AttentionForward, AttentionBackward,
               RopeTable, RopeApply, SwiGluForward, SwiGluBackward, GatherRows, ScatterRows, ScatterAddRows,
               LogProbability, CrossEntropy, WeightedSum, AdamW, SumOfSquares, ClipCoefficient, FindNonFinite, Fill,
               Copy, Add, Scale, AddBias, SumRows, Sample, RouterForward, RouterBackward, RouterBalance,
               RouterBiasUpdate, ExpertSort, GatherSum, GroupedMatMul, GroupedWeightGradient,
               HyperConnectionCoefficients, HyperConnectionCoefficientsBackward, HyperConnectionWeightGradient,
               StreamCollapse, StreamExpand, StreamExpandBackward, CompressForward, CompressBackward,
               CompressPositionGradient, SharedAttentionForward, SharedAttentionBackward, IndexerSelect, IndexerTarget,
               IndexerLoss, MuonMomentum, NormaliseMatrices, GramMatrices, LinearCombination, MuonUpdate, JoinHeads,
               JoinHeadsBackward, RoundToFp4, Hadamard>;

inline constexpr std::size_t kKernelCount = AllKernels::kCount;

/// Index of a kernel in AllKernels.
enum class KernelId : std::uint16_t {};

namespace detail {
template <typename Kernel, typename First, typename... Rest>
constexpr std::size_t index_in(KernelList<First, Rest...>) {
  if constexpr (std::is_same_v<Kernel, First>) {
    return 0;
  } else {
    return 1 + index_in<Kernel>(KernelList<Rest...>{});
  }
}
}  // namespace detail

template <typename Kernel>
inline constexpr KernelId kernel_id = static_cast<KernelId>(detail::index_in<Kernel>(AllKernels{}));

/// What is known of a kernel when only its id is: its name, and how to walk the views of its arguments.
struct KernelInfo {
  std::string_view name;
  std::size_t size;  ///< bytes of the argument struct (trivially copyable)
  /// Moves the address of every view by `bytes` (for devices whose addresses the host must not see).
  void (*relocate)(void* arguments, std::ptrdiff_t bytes);
};

const KernelInfo& kernel_info(KernelId id);

}  // namespace flyover::kernels
