#include "kernels/heads.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_parts(std::string_view kernel, const ConstView& own, const ConstView& shared, const ConstView& joined) {
  check_shape(kernel, "the own part", own, {-1, -1, -1});
  check_shape(kernel, "the shared part", shared, {own.size(0), -1});
  check_shape(kernel, "both parts", joined, {own.size(0), own.size(1), own.size(2) + shared.size(1)});
  check_floating(kernel, "both parts", joined);
  for (const ConstView& view : {own, shared, joined}) {
    check_dtype(kernel, "both parts", view, {joined.dtype});
    check_last_axis_dense(kernel, "both parts", view);
  }
}

}  // namespace

void JoinHeads::check() const {
  check_parts(kName, own, shared, y);
}
Cost JoinHeads::cost() const {
  return {0, operand_bytes(*this)};
}

void JoinHeadsBackward::check() const {
  check_parts(kName, down, dshared, dy);
}
Cost JoinHeadsBackward::cost() const {
  return {dy.size(0) * dy.size(1) * dshared.size(1), operand_bytes(*this)};
}

}  // namespace flyover::kernels
