#include "kernels/compressor.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_wide(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& first) {
  check_shape(kernel, field, view, {first.size(0), first.size(1)});
  check_dtype(kernel, field, view, {first.dtype});
  check_last_axis_dense(kernel, field, view);
}

void check_first(std::string_view kernel, std::string_view field, const ConstView& view) {
  check_shape(kernel, field, view, {-1, -1});
  check_dtype(kernel, field, view, {DType::kF32, DType::kF64});
  check_last_axis_dense(kernel, field, view);
}

/// The bias fits the tokens, and the slots are a whole number of windows.
void check_slots(std::string_view kernel, const ConstView& tokens, const ConstView& bias, const ConstView& rows) {
  check_shape(kernel, "the position bias", bias, {-1, tokens.size(1)});
  check_dtype(kernel, "the position bias", bias, {tokens.dtype});
  check_dense(kernel, "the position bias", bias);
  check_shape(kernel, "rows", rows, {-1, -1});
  check_dtype(kernel, "rows", rows, {DType::kI32});
  check_dense(kernel, "rows", rows);
  check_view(bias.size(0) >= 1 && rows.size(1) >= 1 && rows.size(1) % bias.size(0) == 0, kernel,
             "the slots must be a multiple of the window", rows);
  const std::int64_t roles = rows.size(1) / bias.size(0);
  check_view(tokens.size(1) >= roles && tokens.size(1) % roles == 0, kernel,
             "the width must be a multiple of the number of roles", tokens);
}

template <typename Kernel>
void check_operands(const Kernel& kernel) {
  check_first(kernel.kName, "values", kernel.values);
  check_wide(kernel.kName, "gates", kernel.gates, kernel.values);
  check_slots(kernel.kName, kernel.values, kernel.position_bias, kernel.rows);
}

/// y or dy.
void check_entries(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& values,
                   const ConstView& bias, const ConstView& rows) {
  const std::int64_t roles = rows.size(1) / bias.size(0);
  check_shape(kernel, field, view, {rows.size(0), values.size(1) / roles});
  check_floating(kernel, field, view);
  check_view(statistics_dtype(view.dtype) == values.dtype, kernel, "the pooled entries have an unsupported type", view);
  check_last_axis_dense(kernel, field, view);
}

/// Elements that the slots of all entries have together.
std::int64_t slot_elements(const ConstView& bias, const ConstView& rows) {
  return rows.size(0) * bias.elements();
}

}  // namespace

void CompressForward::check() const {
  check_operands(*this);
  check_entries(kName, "y", y, values, position_bias, rows);
}
Cost CompressForward::cost() const {
  return {6 * slot_elements(position_bias, rows), operand_bytes(*this)};
}

void CompressBackward::check() const {
  check_operands(*this);
  check_entries(kName, "dy", dy, values, position_bias, rows);
  check_wide(kName, "dvalues", dvalues, values);
  check_wide(kName, "dgates", dgates, values);
}
Cost CompressBackward::cost() const {
  return {12 * slot_elements(position_bias, rows), operand_bytes(*this)};
}

void CompressPositionGradient::check() const {
  check_first(kName, "dgates", dgates);
  check_slots(kName, dgates, dposition_bias, rows);
}
Cost CompressPositionGradient::cost() const {
  return {slot_elements(dposition_bias, rows), operand_bytes(*this)};
}

}  // namespace flyover::kernels
