#include "kernels/hyper_connection.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

/// [tokens, columns] of the type of the coefficients that belong to these streams, without gaps.
void check_coefficients(std::string_view kernel, std::string_view field, const ConstView& view,
                        const ConstView& streams, std::int64_t columns) {
  check_shape(kernel, field, view, {streams.size(0), columns});
  check_dtype(kernel, field, view, {statistics_dtype(streams.dtype)});
  check_dense(kernel, field, view);
}

/// One of the parameters.
void check_parameter(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& streams,
                     std::initializer_list<std::int64_t> shape) {
  check_shape(kernel, field, view, shape);
  check_dtype(kernel, field, view, {statistics_dtype(streams.dtype)});
  check_dense(kernel, field, view);
}

void check_streams(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& streams) {
  check_shape(kernel, field, view, {streams.size(0), streams.size(1)});
  check_dtype(kernel, field, view, {streams.dtype});
  check_dense(kernel, field, view);
}

void check_first_streams(std::string_view kernel, const ConstView& streams) {
  check_shape(kernel, "streams", streams, {-1, -1});
  check_floating(kernel, "streams", streams);
  check_dense(kernel, "streams", streams);
}

/// A tensor of one stream's width.
void check_one_stream(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& streams,
                      std::int64_t count) {
  check_shape(kernel, field, view, {streams.size(0), streams.size(1) / count});
  check_dtype(kernel, field, view, {streams.dtype});
  check_last_axis_dense(kernel, field, view);
}

/// There are 1 to kMaximumStreams streams of equal width.
void check_count(std::string_view kernel, const ConstView& streams, std::int64_t count) {
  check_view(count >= 1 && count <= kMaximumStreams, kernel, "the number of streams must be between 1 and 8", streams);
  check_view(streams.size(1) >= count && streams.size(1) % count == 0, kernel,
             "the width must be a multiple of the number of streams", streams);
}

std::int64_t rows_of(std::int64_t streams, bool head) {
  return head ? streams : hyper_connection_coefficients(streams);
}

/// What the kernels that know the parameters have in common.
template <typename Kernel>
void check_site(const Kernel& kernel, bool head) {
  const ConstView& streams = kernel.streams;
  check_first_streams(kernel.kName, streams);
  check_count(kernel.kName, streams, kernel.stream_count);
  check_coefficients(kernel.kName, "product", kernel.product, streams, rows_of(kernel.stream_count, head) + 1);
}

template <typename Kernel>
void check_parameters(const Kernel& kernel) {
  const std::int64_t rows = rows_of(kernel.stream_count, kernel.head);
  check_parameter(kernel.kName, "fn", kernel.fn, kernel.streams, {rows, kernel.streams.size(1)});
  check_parameter(kernel.kName, "base", kernel.base, kernel.streams, {rows});
  check_parameter(kernel.kName, "scale", kernel.scale, kernel.streams, {kernel.head ? 1 : 3});
  check_view(kernel.iterations >= 1, kernel.kName, "there must be an iteration at least", kernel.streams);
}

/// How many streams of the width of `one` there are.
std::int64_t count_of(std::string_view kernel, const ConstView& streams, const ConstView& one) {
  check_first_streams(kernel, streams);
  check_shape(kernel, "the tensor of one stream", one, {streams.size(0), -1});
  const std::int64_t width = one.size(1);
  check_view(width >= 1 && streams.size(1) % width == 0, kernel, "streams must be a multiple as wide as", one);
  check_count(kernel, streams, streams.size(1) / width);
  return streams.size(1) / width;
}

/// The coefficients of a collapse: of a site or of a head.
void check_pre(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& streams,
               std::int64_t count) {
  check_shape(kernel, field, view, {streams.size(0), -1});
  const bool head = view.size(1) == count;
  check_coefficients(kernel, field, view, streams, rows_of(count, head));
}

}  // namespace

void HyperConnectionCoefficients::check() const {
  check_site(*this, head);
  check_parameters(*this);
  check_coefficients(kName, "coefficients", coefficients, streams, fn.size(0));
  if (y.has_value()) {
    check_one_stream(kName, "y", *y, streams, stream_count);
  }
}
Cost HyperConnectionCoefficients::cost() const {
  const std::int64_t passes = fn.size(0) + 1 + (y.has_value() ? 1 : 0);
  return {2 * passes * streams.elements(), operand_bytes(*this)};
}

void HyperConnectionCoefficientsBackward::check() const {
  check_site(*this, head);
  check_parameters(*this);
  check_coefficients(kName, "dcoefficients", dcoefficients, streams, fn.size(0));
  check_coefficients(kName, "dpreactivation", dpreactivation, streams, fn.size(0));
  check_coefficients(kName, "dproduct", dproduct, streams, fn.size(0));
  check_streams(kName, "dstreams", dstreams, streams);
  if (dy.has_value()) {
    check_one_stream(kName, "dy", *dy, streams, stream_count);
  }
  if (dexpanded.has_value()) {
    check_view(!head, kName, "a head expands nothing", *dexpanded);
    check_streams(kName, "dexpanded", *dexpanded, streams);
    check_view(!accumulate || dexpanded->data != dstreams.data || streams.elements() == 0, kName,
               "dstreams cannot be dexpanded where it is accumulated", dstreams);
  }
}
Cost HyperConnectionCoefficientsBackward::cost() const {
  const std::int64_t passes = fn.size(0) + 1 + (dy.has_value() ? 2 : 0) + (dexpanded.has_value() ? stream_count : 0);
  return {2 * passes * streams.elements(), operand_bytes(*this)};
}

void HyperConnectionWeightGradient::check() const {
  const bool head = dfn.rank() == 2 && dfn.size(0) == stream_count;
  const std::int64_t rows = rows_of(stream_count, head);
  check_site(*this, head);
  check_coefficients(kName, "dpreactivation", dpreactivation, streams, rows);
  check_coefficients(kName, "dproduct", dproduct, streams, rows);
  check_parameter(kName, "dfn", dfn, streams, {rows, streams.size(1)});
  check_parameter(kName, "dbase", dbase, streams, {rows});
  check_parameter(kName, "dscale", dscale, streams, {head ? 1 : 3});
}
Cost HyperConnectionWeightGradient::cost() const {
  return {2 * dfn.size(0) * streams.elements(), operand_bytes(*this)};
}

void StreamCollapse::check() const {
  const std::int64_t count = count_of(kName, streams, y);
  check_one_stream(kName, "y", y, streams, count);
  check_pre(kName, "coefficients", coefficients, streams, count);
}
Cost StreamCollapse::cost() const {
  return {2 * streams.elements(), operand_bytes(*this)};
}

void StreamExpand::check() const {
  const std::int64_t count = count_of(kName, streams, f);
  check_one_stream(kName, "f", f, streams, count);
  check_coefficients(kName, "coefficients", coefficients, streams, rows_of(count, false));
  check_streams(kName, "y", y, streams);
}
Cost StreamExpand::cost() const {
  const std::int64_t count = streams.size(1) / f.size(1);
  return {2 * (1 + count) * streams.elements(), operand_bytes(*this)};
}

void StreamExpandBackward::check() const {
  const std::int64_t count = count_of(kName, streams, f);
  check_one_stream(kName, "f", f, streams, count);
  check_one_stream(kName, "df", df, streams, count);
  check_coefficients(kName, "coefficients", coefficients, streams, rows_of(count, false));
  check_coefficients(kName, "dcoefficients", dcoefficients, streams, rows_of(count, false));
  check_streams(kName, "dy", dy, streams);
}
Cost StreamExpandBackward::cost() const {
  const std::int64_t count = streams.size(1) / f.size(1);
  return {2 * (2 + count) * streams.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
