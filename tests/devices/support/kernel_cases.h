// Random cases for every kernel: arguments with operands in host memory. What a kernel must do with them is not here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "devices/support/any_kernel.h"
#include "devices/support/operands.h"
#include "kernels/all.h"

namespace flyover::tests {

/// How far an output may be off where its terms cancel: the size of the terms of its sums (0 = judge by the output).
struct Magnitude {
  std::string_view field;
  double size;
};

/// Fills the arguments of one case. `dtype` is f32, bf16 or f64: the type of the activations; a kernel that has none
/// takes what goes with it (master weights and logits are f32 where the activations are bf16). A kernel without a
/// maker does not compile.
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::MatMul& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RmsNormForward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RmsNormBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RmsNormWeightGradient& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::AttentionForward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::AttentionBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RopeTable& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RopeApply& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::SwiGluForward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::SwiGluBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RouterForward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RouterBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RouterBalance& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RouterBiasUpdate& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::ExpertSort& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::GatherSum& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::GroupedMatMul& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::GroupedWeightGradient& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::GatherRows& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::ScatterRows& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::ScatterAddRows& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::LogProbability& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::CrossEntropy& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::WeightedSum& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::AdamW& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::SumOfSquares& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::ClipCoefficient& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::FindNonFinite& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::Fill& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::Copy& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::Add& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::Scale& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::AddBias& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::SumRows& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::Sample& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype,
                                 kernels::HyperConnectionCoefficients& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype,
                                 kernels::HyperConnectionCoefficientsBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype,
                                 kernels::HyperConnectionWeightGradient& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::StreamCollapse& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::StreamExpand& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::StreamExpandBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::CompressForward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::CompressBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::CompressPositionGradient& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::SharedAttentionForward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::SharedAttentionBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::IndexerSelect& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::IndexerTarget& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::IndexerLoss& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::MuonMomentum& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::NormaliseMatrices& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::LinearCombination& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::GramMatrices& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::MuonUpdate& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::JoinHeads& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::JoinHeadsBackward& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::RoundToFp4& kernel);
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, kernels::Hadamard& kernel);
/// The maker of whichever kernel it is.
std::vector<Magnitude> make_case(OperandMaker& make, kernels::DType dtype, AnyKernel& kernel);

/// A kernel's arguments and the memory that they point to.
struct KernelCase {
  int number = 0;
  AnyKernel kernel;
  OperandMemory memory;
  std::vector<Magnitude> magnitudes;

  /// The same case with its own copy of every operand; operands that shared memory still do.
  KernelCase copy() const;
};

/// Case `number` of a kernel: the same on every machine. The arguments pass the kernel's own check().
KernelCase kernel_case(kernels::KernelId id, kernels::DType dtype, int number);

/// "add case 4: a bf16[3, 5], b bf16[3, 5], y bf16[3, 5]": what a failing test prints.
std::string describe(const KernelCase& one);

}  // namespace flyover::tests
