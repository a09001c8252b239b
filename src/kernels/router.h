// Which experts a token goes to, and with what weight.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

inline constexpr std::int64_t kMaximumExperts = 1024;  ///< of one router
inline constexpr std::int64_t kMaximumChoices = 32;    ///< of one token

/// Keeps the sum of scores that all underflow from dividing by zero.
inline constexpr float kRouterEpsilon = 1e-20f;

/// What turns a router's logits into scores.
enum class RouterScore : std::uint8_t {
  kSoftmax,      ///< over all experts: Qwen3-MoE
  kSigmoid,      ///< DeepSeek-V3
  kSqrtSoftplus  ///< sqrt(log(1 + exp(x))), exp(x / 2) where x < -20: DeepSeek-V4
};

/// The rule that a router follows; the same for its forward and backward pass.
struct RouterRule {
  RouterScore score = RouterScore::kSoftmax;
  std::int64_t groups = 1;         ///< the experts are cut into this many groups of equal size
  std::int64_t chosen_groups = 1;  ///< experts are chosen from this many groups, by the sum of a group's two best
  bool normalise = true;           ///< divide the chosen scores by their sum + kRouterEpsilon
  float scale = 1.0f;              ///< the weights' last factor
};

/// s = score(logits). experts[t] = the `choices` experts with the largest s + bias, best first (equal ones: the lower
/// index first), within the best groups where the rule has groups (equal ones likewise) - or, where `fixed_experts` is
/// given, those. weights[t, i] = s of experts[t, i] without the bias, normalised and scaled as the rule says.
/// A score that is not a number counts as the largest, so that it shows in the weights.
struct RouterForward {
  static constexpr std::string_view kName = "router_forward";
  ConstView logits;                        ///< [tokens, experts] f32 (f64)
  std::optional<ConstView> bias;           ///< [experts] f32
  std::optional<ConstView> fixed_experts;  ///< [tokens, choices] i32; what a row names twice counts twice
  View experts;                            ///< [tokens, choices] i32
  View weights;                            ///< [tokens, choices] as logits
  RouterRule rule;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("logits", &RouterForward::logits), in("bias", &RouterForward::bias),
          in("fixed_experts", &RouterForward::fixed_experts), out("experts", &RouterForward::experts),
          out("weights", &RouterForward::weights), scalar("rule", &RouterForward::rule));
  };
  void check() const;
  Cost cost() const;
};

/// dlogits from the gradient of the weights, the choice being constant. With s the score of a chosen expert, S the sum
/// of the chosen ones + kRouterEpsilon: ds_i = scale / S * (dw_i - sum_j dw_j s_j / S) where normalised, scale * dw_i
/// otherwise; then through the score: sigmoid s (1 - s), sqrt-softplus sigmoid(x) / (2 s) (s / 2 where x < -20),
/// softmax s_i * (ds_i - sum_j ds_j s_j) over all experts. Experts that were not chosen get 0 (softmax: their share).
struct RouterBackward {
  static constexpr std::string_view kName = "router_backward";
  ConstView logits;    ///< [tokens, experts] f32 (f64)
  ConstView experts;   ///< [tokens, choices] i32
  ConstView dweights;  ///< [tokens, choices] as logits
  View dlogits;        ///< [tokens, experts] as logits, overwritten
  RouterRule rule;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("logits", &RouterBackward::logits), in("experts", &RouterBackward::experts),
          in("dweights", &RouterBackward::dweights), out("dlogits", &RouterBackward::dlogits),
          scalar("rule", &RouterBackward::rule));
  };
  void check() const;
  Cost cost() const;
};

/// Sequence-wise balance loss (DeepSeek-V3 report, equations 17 to 20). For each document d of T tokens, with
/// f_i = experts / (choices T) * (how often expert i was chosen) and P_i = mean over its tokens of s_i / (sum_j s_j +
/// kRouterEpsilon): loss += coefficient * document_weights[d] * sum_i f_i P_i, and dlogits += the gradient (f is
/// constant). Tokens in no document are left as they are.
struct RouterBalance {
  static constexpr std::string_view kName = "router_balance";
  ConstView logits;            ///< [tokens, experts] f32 (f64)
  ConstView experts;           ///< [tokens, choices] i32
  ConstView sequences;         ///< [documents, 4] i32, see SequenceColumn: kFirstQuery and kQueries count
  ConstView document_weights;  ///< [documents] as logits
  View loss;                   ///< [1] as logits
  View dlogits;                ///< [tokens, experts] as logits
  RouterScore score = RouterScore::kSigmoid;
  float coefficient = 0.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("logits", &RouterBalance::logits), in("experts", &RouterBalance::experts),
          in("sequences", &RouterBalance::sequences), in("document_weights", &RouterBalance::document_weights),
          in_out("loss", &RouterBalance::loss), in_out("dlogits", &RouterBalance::dlogits),
          scalar("score", &RouterBalance::score), scalar("coefficient", &RouterBalance::coefficient));
  };
  void check() const;
  Cost cost() const;
};

/// Balancing without an auxiliary loss (DeepSeek-V3 report, section 2.1.2): bias_i += speed * sign(mean(load) -
/// load_i), then load = 0.
struct RouterBiasUpdate {
  static constexpr std::string_view kName = "router_bias_update";
  View load;  ///< [experts] f32: how often each was chosen in the whole batch
  View bias;  ///< [experts] f32
  float speed = 0.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in_out("load", &RouterBiasUpdate::load), in_out("bias", &RouterBiasUpdate::bias),
          scalar("speed", &RouterBiasUpdate::speed));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
