#include "devices/support/kernel_cases.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace flyover::tests {

using kernels::DType;
using kernels::statistics_dtype;
using kernels::View;

namespace {

using Magnitudes = std::vector<Magnitude>;

/// Master weights, logits and statistics: f32 where the activations are bf16.
DType wide(DType dtype) {
  return statistics_dtype(dtype);
}

/// The activations' type, or now and then another type that the kernel only moves.
DType any_type(OperandMaker& make, DType dtype) {
  return make.number() % 4 == 3 ? make.one_of({DType::kI32, DType::kI64, DType::kU8, DType::kF64}) : dtype;
}

}  // namespace

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::MatMul& kernel) {
  const std::int64_t rows = make.count(70), columns = make.size(70);
  const std::int64_t depth = make.number() == 2 ? 0 : make.size(make.coin() ? 40 : 700);
  const DType result = dtype == DType::kF64 ? dtype : make.one_of({dtype, dtype, DType::kF32, DType::kBf16});
  kernel.a = make.matrix(dtype, rows, depth);
  kernel.b = make.matrix(dtype, columns, depth);
  kernel.accumulate = make.number() > 2 && make.coin();
  kernel.c = kernel.accumulate ? make.random(result, {rows, columns}, Layout::kGaps)
                               : make.blank(result, {rows, columns}, Layout::kGaps);
  return {{"c", std::sqrt(static_cast<double>(depth))}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RmsNormForward& kernel) {
  const std::int64_t rows = make.count(40), width = make.size(600);
  kernel.x = make.random(dtype, {rows, width}, Layout::kGaps, make.one_of({0.01, 1.0, 30.0}));
  if (make.coin()) {
    kernel.weight = make.random(dtype, {width});
  }
  kernel.y = make.blank(dtype, {rows, width}, Layout::kGaps);
  kernel.rstd = make.blank(wide(dtype), {rows});
  kernel.epsilon = make.one_of({1e-5f, 1e-6f});
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RmsNormBackward& kernel) {
  const std::int64_t rows = make.count(40), width = make.size(600);
  kernel.x = make.random(dtype, {rows, width}, Layout::kGaps);
  if (make.coin()) {
    kernel.weight = make.random(dtype, {width});
  }
  kernel.rstd = make.uniform(wide(dtype), {rows}, 0.5, 2.0);
  kernel.dy = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.accumulate = make.coin();
  kernel.dx = kernel.accumulate ? make.random(dtype, {rows, width}, Layout::kGaps)
                                : make.blank(dtype, {rows, width}, Layout::kGaps);
  return {{"dx", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RmsNormWeightGradient& kernel) {
  const std::int64_t rows = make.count(make.coin() ? 20 : 700), width = make.size(200);
  kernel.x = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.rstd = make.uniform(wide(dtype), {rows}, 0.5, 2.0);
  kernel.dy = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.dweight = make.random(wide(dtype), {width});
  return {{"dweight", std::sqrt(static_cast<double>(rows)) + 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RopeTable& kernel) {
  const std::int64_t tokens = make.count(60), pairs = make.size(70);
  kernel.positions = make.indices(tokens, make.one_of<std::int64_t>({4, 3000, 1000000}));
  kernel.inverse_frequencies = make.uniform(make.one_of({DType::kF32, DType::kF64}), {pairs}, 1e-5, 1.0);
  kernel.cosine = make.blank(wide(dtype), {tokens, pairs});
  kernel.sine = make.blank(wide(dtype), {tokens, pairs});
  return {{"cosine", 0.1}, {"sine", 0.1}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RopeApply& kernel) {
  const std::int64_t tokens = make.count(40), heads = make.size(9), pairs = make.size(70);
  const std::int64_t before = make.one_of<std::int64_t>({0, 0, 3, 16}), after = make.one_of<std::int64_t>({0, 0, 1, 8});
  kernel.x = make.random(dtype, {tokens, heads, before + 2 * pairs + after}, Layout::kGaps);
  kernel.cosine = make.uniform(wide(dtype), {tokens, pairs}, -1.0, 1.0);
  kernel.sine = make.uniform(wide(dtype), {tokens, pairs}, -1.0, 1.0);
  kernel.pairing = make.one_of({kernels::RopePairing::kHalves, kernels::RopePairing::kInterleaved});
  kernel.inverse = make.coin();
  kernel.first_dimension = before;
  return {{"x", 1.0}};
}

namespace {

/// Every other case has weights of its rows; every third limits gate and up, at times so that nearly all are cut.
void add_weights_and_limit(OperandMaker& make, DType dtype, std::int64_t rows, kernels::SwiGluForward& kernel) {
  if (make.number() % 2 == 1) {
    kernel.row_weights = make.uniform(wide(dtype), {rows}, -2.0, 2.0);
  }
  if (make.number() % 3 == 2) {
    kernel.limit = make.one_of({10.0f, 1.5f, 0.01f});
  }
}

}  // namespace

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::SwiGluForward& kernel) {
  const std::int64_t rows = make.count(40), width = make.number() == 2 ? 0 : make.size(300);
  // Wide enough that exp(-gate) overflows in fp32 now and then: silu must still be 0 there.
  kernel.gate_up = make.random(dtype, {rows, 2 * width}, Layout::kGaps, make.one_of({1.0, 5.0, 60.0}));
  kernel.y = make.blank(dtype, {rows, width}, Layout::kGaps);
  add_weights_and_limit(make, dtype, rows, kernel);
  return {{"y", 1e-20}};  // an exponential near the end of fp32's range may be taken for 0
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::SwiGluBackward& kernel) {
  const std::int64_t rows = make.count(40), width = make.number() == 2 ? 0 : make.size(300);
  const double deviation = make.one_of({1.0, 5.0, 60.0});
  kernel.gate_up = make.random(dtype, {rows, 2 * width}, Layout::kGaps, deviation);
  kernel.dy = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.dgate_up = make.blank(dtype, {rows, 2 * width}, Layout::kGaps);
  kernels::SwiGluForward forward;
  add_weights_and_limit(make, dtype, rows, forward);
  kernel.row_weights = forward.row_weights;
  kernel.limit = forward.limit;
  if (kernel.row_weights.has_value()) {
    kernel.drow_weights = make.blank(wide(dtype), {rows});
  }
  return {{"dgate_up", 1.0}, {"drow_weights", deviation * deviation * std::sqrt(static_cast<double>(width)) + 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::GatherRows& kernel) {
  const std::int64_t table_rows = make.size(60), count = make.count(80), width = make.size(200);
  const DType type = any_type(make, dtype);
  kernel.table = make.random(type, {table_rows, width}, Layout::kGaps);
  kernel.rows = make.indices(count, table_rows);
  kernel.y = make.blank(type, {count, width}, Layout::kGaps);
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::ScatterRows& kernel) {
  const std::int64_t table_rows = make.size(60), width = make.size(200);
  const std::int64_t count = make.number() == 0 ? 0 : 1 + make.below(table_rows);
  const DType type = any_type(make, dtype);
  const View rows = make.blank(DType::kI32, {count});
  const base::Permutation row_of(
      base::Random(7, base::RandomPurpose::kTest, 0, static_cast<std::uint64_t>(make.number())),
      static_cast<std::uint64_t>(table_rows));
  for (std::int64_t i = 0; i < count; ++i) {
    set_element(rows, i, static_cast<double>(row_of(static_cast<std::uint64_t>(i))));
  }
  kernel.x = make.random(type, {count, width}, Layout::kGaps);
  kernel.rows = rows;
  kernel.table = make.random(type, {table_rows, width}, Layout::kGaps);
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::ScatterAddRows& kernel) {
  const std::int64_t table_rows = make.size(20), count = make.count(200), width = make.size(100);
  kernel.x = make.random(dtype, {count, width}, Layout::kGaps);
  kernel.rows = make.indices(count, table_rows);
  kernel.table = make.random(wide(dtype), {table_rows, width}, Layout::kGaps);
  return {{"table", std::sqrt(static_cast<double>(count)) + 1.0}};
}

namespace {

View make_targets(OperandMaker& make, std::int64_t rows, std::int64_t vocabulary) {
  const View targets = make.indices(rows, vocabulary);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (make.below(4) == 0) {
      set_element(targets, i, kernels::kIgnoredTarget);
    }
  }
  return targets;
}

}  // namespace

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::LogProbability& kernel) {
  const std::int64_t rows = make.count(20), vocabulary = make.size(make.coin() ? 50 : 3000);
  kernel.logits = make.random(wide(dtype), {rows, vocabulary}, Layout::kGaps, make.one_of({1.0, 8.0}));
  kernel.targets = make_targets(make, rows, vocabulary);
  kernel.log_probability = make.blank(wide(dtype), {rows});
  kernel.temperature = make.one_of({1.0f, 0.7f, 2.0f});
  return {{"log_probability", 4.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::CrossEntropy& kernel) {
  const std::int64_t rows = make.count(20), vocabulary = make.size(make.coin() ? 50 : 3000);
  kernel.logits = make.random(wide(dtype), {rows, vocabulary}, Layout::kGaps, make.one_of({1.0, 4.0}));
  kernel.targets = make_targets(make, rows, vocabulary);
  kernel.weights = make.uniform(wide(dtype), {rows}, 0.001, 0.01);
  kernel.log_probability = make.blank(wide(dtype), {rows});
  kernel.dlogits = make.blank(dtype, {rows, vocabulary}, Layout::kGaps);
  return {{"log_probability", 4.0}, {"dlogits", 0.001}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::WeightedSum& kernel) {
  const std::int64_t count = make.count(make.coin() ? 50 : 5000);
  kernel.x = make.random(wide(dtype), {count});
  kernel.weights = make.uniform(wide(dtype), {count}, 0.0, 1.0);
  kernel.sum = make.random(wide(dtype), {1});
  kernel.factor = make.one_of({1.0f, -1.0f, 0.3f});
  return {{"sum", std::sqrt(static_cast<double>(count)) + 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::AdamW& kernel) {
  const DType type = wide(dtype);
  const std::int64_t count = make.count(make.coin() ? 100 : 9000);
  kernel.gradient = make.random(type, {count});
  kernel.gradient_scale = make.uniform(type, {1}, 0.1, 1.0);
  kernel.weight = make.random(type, {count});
  const DType moments = make.below(3) == 0 ? DType::kBf16 : type;
  kernel.first_moment = make.random(moments, {count}, Layout::kDense, 0.1);
  kernel.second_moment = make.uniform(moments, {count}, 0.0, 1.0);
  if (dtype == DType::kBf16 || make.below(4) == 0) {
    kernel.parameter = make.blank(dtype == DType::kF32 ? DType::kF32 : DType::kBf16, {count});
  }
  const double step = static_cast<double>(1 + make.below(50));
  kernel.learning_rate = make.one_of({1e-3f, 3e-2f});
  kernel.beta1 = make.one_of({0.9f, 0.8f});
  kernel.beta2 = make.one_of({0.999f, 0.95f});
  kernel.weight_decay = make.one_of({0.0f, 0.1f});
  kernel.correction1 = static_cast<float>(1.0 - std::pow(static_cast<double>(kernel.beta1), step));
  kernel.correction2 = static_cast<float>(1.0 - std::pow(static_cast<double>(kernel.beta2), step));
  return {{"first_moment", 0.5}, {"weight", 0.5}, {"parameter", 0.5}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::SumOfSquares& kernel) {
  kernel.x = make.random(dtype, {make.count(make.coin() ? 100 : 70000)});
  kernel.sum = make.blank(wide(dtype), {1});
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::ClipCoefficient& kernel) {
  kernel.sums_of_squares = make.uniform(wide(dtype), {make.count(300)}, 0.0, 1.0);
  kernel.norm = make.blank(wide(dtype), {1});
  kernel.coefficient = make.blank(wide(dtype), {1});
  kernel.max_norm = make.one_of({1.0f, 0.0f, 100.0f, 0.5f});
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::FindNonFinite& kernel) {
  const View x = make.random(dtype, {make.count(make.coin() ? 100 : 70000)});
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (std::int64_t culprits = x.elements() == 0 ? 0 : make.below(4); culprits > 0; --culprits) {
    set_element(x, make.below(x.elements()),
                make.one_of({kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()}));
  }
  kernel.x = x;
  kernel.index = make.blank(DType::kI64, {1});
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::Fill& kernel) {
  const DType type = any_type(make, dtype);
  switch (make.number() < 2 ? 2 : make.below(3)) {
    case 0:
      kernel.y = make.blank(type, {});
      break;
    case 1:
      kernel.y = make.blank(type, {make.size(500)});
      break;
    default:
      kernel.y = make.blank(type, {make.count(40), make.size(100)}, Layout::kGaps);
      break;
  }
  kernel.value = kernels::is_floating(type) ? make.normal() : static_cast<double>(make.below(200));
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::Copy& kernel) {
  const DType from = any_type(make, dtype);
  DType to = from;
  if (from == dtype && make.coin()) {
    to = make.one_of({DType::kF32, DType::kBf16, dtype});  // f64 is converted by devices that compute in it
  }
  const std::int64_t rows = make.count(40), width = make.number() == 2 ? 0 : make.size(300);
  kernel.x = make.random(from, {rows, width}, Layout::kGaps);
  kernel.y = make.blank(to, {rows, width}, Layout::kGaps);
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::Add& kernel) {
  const std::int64_t rows = make.count(40), width = make.number() == 2 ? 0 : make.size(300);
  const View a = make.random(dtype, {rows, width}, Layout::kGaps);
  const View b = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.a = a;
  kernel.b = b;
  switch (make.below(3)) {
    case 0:
      kernel.y = a;
      break;
    case 1:
      kernel.y = b;
      break;
    default:
      kernel.y = make.blank(dtype, {rows, width}, Layout::kGaps);
      break;
  }
  return {{"y", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::Scale& kernel) {
  const std::int64_t rows = make.count(40), width = make.number() == 2 ? 0 : make.size(300);
  const View x = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.x = x;
  kernel.y = make.coin() ? x : make.blank(dtype, {rows, width}, Layout::kGaps);
  kernel.factor = make.one_of({0.0f, -1.0f, 0.3f, 17.0f});
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::AddBias& kernel) {
  const std::int64_t rows = make.count(40), width = make.number() == 2 ? 0 : make.size(300);
  kernel.bias = make.random(dtype, {width});
  kernel.y = make.random(dtype, {rows, width}, Layout::kGaps);
  return {{"y", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::SumRows& kernel) {
  const std::int64_t rows = make.count(make.coin() ? 20 : 700), width = make.number() == 2 ? 0 : make.size(200);
  kernel.x = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.sum = make.random(wide(dtype), {width});
  return {{"sum", std::sqrt(static_cast<double>(rows)) + 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType, kernels::Sample& kernel) {
  const std::int64_t rows = make.count(12), vocabulary = make.size(make.coin() ? 30 : 2000);
  const View logits = make.random(DType::kF32, {rows, vocabulary}, Layout::kGaps, make.one_of({1.0, 4.0}));
  if (make.number() % 3 == 0) {  // many ties
    for (std::int64_t i = 0; i < logits.elements(); ++i) {
      set_element(logits, i, std::round(element(logits, i)));
    }
  }
  const View temperature = make.blank(DType::kF32, {rows}), top_k = make.blank(DType::kI32, {rows}),
             top_p = make.blank(DType::kF32, {rows});
  for (std::int64_t i = 0; i < rows; ++i) {
    set_element(temperature, i, make.one_of({0.0, 1.0, 0.7, 1.9}));
    set_element(top_k, i, static_cast<double>(make.one_of<std::int64_t>({0, 0, 1, 5, vocabulary, vocabulary + 7})));
    // Values that no sum of a few equal probabilities meets exactly, where rounding would decide.
    set_element(top_p, i, make.one_of({1.0, 1.0, 0.917, 0.4137, 0.0531}));
  }
  kernel.logits = logits;
  kernel.temperature = temperature;
  kernel.top_k = top_k;
  kernel.top_p = top_p;
  kernel.uniform = make.uniform(DType::kF32, {rows}, 0.0, 1.0);
  kernel.token = make.blank(DType::kI32, {rows});
  kernel.log_probability = make.blank(DType::kF32, {rows});
  return {{"log_probability", 4.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::JoinHeads& kernel) {
  const std::int64_t tokens = make.count(40), heads = make.size(9), own = make.size(70), shared = make.size(70);
  kernel.own = make.random(dtype, {tokens, heads, own}, Layout::kGaps);
  kernel.shared = make.random(dtype, {tokens, shared}, Layout::kGaps);
  kernel.y = make.blank(dtype, {tokens, heads, own + shared}, Layout::kGaps);
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::JoinHeadsBackward& kernel) {
  const std::int64_t tokens = make.count(40), heads = make.size(9), own = make.size(70), shared = make.size(70);
  kernel.dy = make.random(dtype, {tokens, heads, own + shared}, Layout::kGaps);
  kernel.down = make.blank(dtype, {tokens, heads, own}, Layout::kGaps);
  kernel.dshared = make.blank(dtype, {tokens, shared}, Layout::kGaps);
  return {{"dshared", std::sqrt(static_cast<double>(heads))}};
}

KernelCase KernelCase::copy() const {
  KernelCase result{number, kernel, memory.copy(), magnitudes};
  std::vector<KernelView> views = kernel.views();
  for (KernelView& one : views) {
    one.view.data = result.memory.translate(memory, one.view.data);
  }
  result.kernel.set_views(views);
  return result;
}

KernelCase kernel_case(kernels::KernelId id, DType dtype, int number) {
  const auto seed = static_cast<std::uint64_t>(id) * 16 + static_cast<std::uint64_t>(dtype);
  OperandMaker make(seed, number);
  KernelCase result{number, AnyKernel(id), {}, {}};
  result.magnitudes = make_case(make, dtype, result.kernel);
  result.memory = std::move(make.memory());
  result.kernel.check();
  return result;
}

std::string describe(const KernelCase& one) {
  std::vector<std::string> fields;
  for (const KernelView& field : one.kernel.views()) {
    fields.push_back(fmt::format("{} {}", field.name, kernels::to_string(field.view)));
  }
  std::ranges::move(one.kernel.scalars(), std::back_inserter(fields));
  return fmt::format("{} case {}: {}", kernels::kernel_info(one.kernel.id()).name, one.number, fmt::join(fields, ", "));
}

}  // namespace flyover::tests
