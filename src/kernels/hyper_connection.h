// Manifold-constrained hyper-connections: a residual of several streams, mixed by coefficients that each token computes
// for itself (Xie et al., "mHC: Manifold-Constrained Hyper-Connections", 2025; DeepSeek-V4 report, section 2.2).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// Rows of coefficients for n streams: pre [n], post [n], comb [n * n] (row-major), in this order.
constexpr std::int64_t hyper_connection_coefficients(std::int64_t streams) {
  return streams * (2 + streams);
}

inline constexpr std::int64_t kMaximumStreams = 8;

/// The coefficients of one site. With x = streams[t] flattened, r = 1 / sqrt(mean(x^2) + norm_epsilon), u = r * (fn x):
///   pre_j  = sigmoid(scale[0] u_j + base_j) + epsilon
///   post_j = 2 sigmoid(scale[1] u_{n+j} + base_{n+j})
///   M      = softmax over k of (scale[2] u_{2n+n j+k} + base_{2n+n j+k}) + epsilon; columns divided by (sum over j +
///            epsilon); then iterations - 1 times: rows, then columns divided by (their sum + epsilon).   comb = M
/// With head = true there are only the n rows of pre (the mixing before the output layer). Where y is present it
/// becomes what StreamCollapse makes of the coefficients, bit for bit, without another pass over the streams.
struct HyperConnectionCoefficients {
  static constexpr std::string_view kName = "hyper_connection_coefficients";
  ConstView streams;      ///< [tokens, n * width] bf16 | f32 (f64); dense
  ConstView fn;           ///< [rows, n * width] f32 (f64), rows = n (2 + n), head: n
  ConstView base;         ///< [rows] as fn
  ConstView scale;        ///< [3] as fn, head: [1]
  View coefficients;      ///< [tokens, rows] as fn
  View product;           ///< [tokens, rows + 1] as fn: fn x, then r; for the backward pass
  std::optional<View> y;  ///< [tokens, width] as streams; last axis dense
  std::int64_t stream_count = 4;
  std::int64_t iterations = 20;
  float norm_epsilon = 1e-6f;
  float epsilon = 1e-6f;
  bool head = false;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("streams", &HyperConnectionCoefficients::streams), in("fn", &HyperConnectionCoefficients::fn),
          in("base", &HyperConnectionCoefficients::base), in("scale", &HyperConnectionCoefficients::scale),
          out("coefficients", &HyperConnectionCoefficients::coefficients),
          out("product", &HyperConnectionCoefficients::product), out("y", &HyperConnectionCoefficients::y),
          scalar("stream_count", &HyperConnectionCoefficients::stream_count),
          scalar("iterations", &HyperConnectionCoefficients::iterations),
          scalar("norm_epsilon", &HyperConnectionCoefficients::norm_epsilon),
          scalar("epsilon", &HyperConnectionCoefficients::epsilon), scalar("head", &HyperConnectionCoefficients::head));
  };
  void check() const;
  Cost cost() const;
};

/// The gradients down to fn x; Sinkhorn's steps are computed again. dstreams (+)= fn' dproduct + the path through r.
/// With dy, the gradient of y (StreamCollapse), dpre_j grows by stream_j . dy and dstream_j by pre_j dy; with
/// dexpanded, the gradient of what StreamExpand made, dstream_j grows by sum over k of comb_{j,k} dexpanded_k: all that
/// a site adds to dstreams, in one pass and rounded once.
struct HyperConnectionCoefficientsBackward {
  static constexpr std::string_view kName = "hyper_connection_coefficients_backward";
  ConstView streams;                   ///< [tokens, n * width]
  ConstView fn;                        ///< [rows, n * width] f32 (f64)
  ConstView base;                      ///< [rows]
  ConstView scale;                     ///< [3], head: [1]
  ConstView product;                   ///< [tokens, rows + 1], from the forward pass
  ConstView dcoefficients;             ///< [tokens, rows]
  View dstreams;                       ///< [tokens, n * width] as streams
  View dpreactivation;                 ///< [tokens, rows] as fn: gradient of scale * u + base
  View dproduct;                       ///< [tokens, rows] as fn: gradient of fn x
  std::optional<ConstView> dy;         ///< [tokens, width] as streams; last axis dense
  std::optional<ConstView> dexpanded;  ///< [tokens, n * width] as streams; dense; not with head; may be dstreams
  bool accumulate = false;             ///< add to dstreams instead of overwriting it
  std::int64_t stream_count = 4;
  std::int64_t iterations = 20;
  float epsilon = 1e-6f;
  bool head = false;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("streams", &HyperConnectionCoefficientsBackward::streams),
          in("fn", &HyperConnectionCoefficientsBackward::fn), in("base", &HyperConnectionCoefficientsBackward::base),
          in("scale", &HyperConnectionCoefficientsBackward::scale),
          in("product", &HyperConnectionCoefficientsBackward::product),
          in("dcoefficients", &HyperConnectionCoefficientsBackward::dcoefficients),
          in_out("dstreams", &HyperConnectionCoefficientsBackward::dstreams),
          out("dpreactivation", &HyperConnectionCoefficientsBackward::dpreactivation),
          out("dproduct", &HyperConnectionCoefficientsBackward::dproduct),
          in("dy", &HyperConnectionCoefficientsBackward::dy),
          in("dexpanded", &HyperConnectionCoefficientsBackward::dexpanded),
          scalar("accumulate", &HyperConnectionCoefficientsBackward::accumulate),
          scalar("stream_count", &HyperConnectionCoefficientsBackward::stream_count),
          scalar("iterations", &HyperConnectionCoefficientsBackward::iterations),
          scalar("epsilon", &HyperConnectionCoefficientsBackward::epsilon),
          scalar("head", &HyperConnectionCoefficientsBackward::head));
  };
  void check() const;
  Cost cost() const;
};

/// dfn += dproduct' streams; dbase += sum over tokens of dpreactivation; dscale += per group of rows (pre, post, comb)
/// the sum of dpreactivation * u. Tokens are summed in an order fixed by their number. Where the streams are bf16 a
/// device may round dproduct to bf16.
struct HyperConnectionWeightGradient {
  static constexpr std::string_view kName = "hyper_connection_weight_gradient";
  ConstView streams;         ///< [tokens, n * width]
  ConstView product;         ///< [tokens, rows + 1], from the forward pass
  ConstView dpreactivation;  ///< [tokens, rows]
  ConstView dproduct;        ///< [tokens, rows]
  View dfn;                  ///< [rows, n * width] f32 (f64)
  View dbase;                ///< [rows]
  View dscale;               ///< [3], head: [1]
  std::int64_t stream_count = 4;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("streams", &HyperConnectionWeightGradient::streams),
          in("product", &HyperConnectionWeightGradient::product),
          in("dpreactivation", &HyperConnectionWeightGradient::dpreactivation),
          in("dproduct", &HyperConnectionWeightGradient::dproduct), in_out("dfn", &HyperConnectionWeightGradient::dfn),
          in_out("dbase", &HyperConnectionWeightGradient::dbase),
          in_out("dscale", &HyperConnectionWeightGradient::dscale),
          scalar("stream_count", &HyperConnectionWeightGradient::stream_count));
  };
  void check() const;
  Cost cost() const;
};

/// y = sum over j of pre_j * stream_j.
struct StreamCollapse {
  static constexpr std::string_view kName = "stream_collapse";
  ConstView streams;       ///< [tokens, n * width] bf16 | f32 (f64); dense
  ConstView coefficients;  ///< [tokens, rows] f32 (f64); pre comes first
  View y;                  ///< [tokens, width] as streams; last axis dense
  static constexpr auto fields = [](auto&& visit) {
    visit(in("streams", &StreamCollapse::streams), in("coefficients", &StreamCollapse::coefficients),
          out("y", &StreamCollapse::y));
  };
  void check() const;
  Cost cost() const;
};

/// out_k = post_k * f + sum over j of comb_{j,k} * stream_j, in fp32, rounded once.
struct StreamExpand {
  static constexpr std::string_view kName = "stream_expand";
  ConstView streams;       ///< [tokens, n * width] bf16 | f32 (f64); dense
  ConstView f;             ///< [tokens, width] as streams; last axis dense
  ConstView coefficients;  ///< [tokens, n (2 + n)] f32 (f64)
  View y;                  ///< [tokens, n * width] as streams
  static constexpr auto fields = [](auto&& visit) {
    visit(in("streams", &StreamExpand::streams), in("f", &StreamExpand::f),
          in("coefficients", &StreamExpand::coefficients), out("y", &StreamExpand::y));
  };
  void check() const;
  Cost cost() const;
};

/// df (+)= sum over k of post_k dy_k; dpost_k = f . dy_k; dcomb_{j,k} = stream_j . dy_k; dpre = 0. What dy gives the
/// streams HyperConnectionCoefficientsBackward adds with all the rest.
struct StreamExpandBackward {
  static constexpr std::string_view kName = "stream_expand_backward";
  ConstView streams;       ///< [tokens, n * width] bf16 | f32 (f64); dense
  ConstView f;             ///< [tokens, width] as streams; last axis dense
  ConstView coefficients;  ///< [tokens, n (2 + n)] f32 (f64)
  ConstView dy;            ///< [tokens, n * width] as streams
  View df;                 ///< [tokens, width] as streams; last axis dense
  View dcoefficients;      ///< [tokens, n (2 + n)] as coefficients
  bool accumulate_f = false;
  bool accumulate_coefficients = false;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("streams", &StreamExpandBackward::streams), in("f", &StreamExpandBackward::f),
          in("coefficients", &StreamExpandBackward::coefficients), in("dy", &StreamExpandBackward::dy),
          in_out("df", &StreamExpandBackward::df), in_out("dcoefficients", &StreamExpandBackward::dcoefficients),
          scalar("accumulate_f", &StreamExpandBackward::accumulate_f),
          scalar("accumulate_coefficients", &StreamExpandBackward::accumulate_coefficients));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
