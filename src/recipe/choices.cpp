#include "recipe/choices.h"

#include <array>
#include <set>
#include <vector>

#include "base/text.h"
#include "recipe/values.h"

namespace flyover::recipe {
namespace {

template <typename Enum>
constexpr Choice choice(Enum value, std::string_view name) {
  return {static_cast<int>(value), name};
}

constexpr std::array kDeviceKinds = {choice(DeviceKind::kCpu, "cpu"), choice(DeviceKind::kReference, "reference")};
constexpr std::array kInstructionSets = {choice(InstructionSet::kAuto, "auto"), choice(InstructionSet::kAvx2, "avx2"),
                                         choice(InstructionSet::kAvx512, "avx512"),
                                         choice(InstructionSet::kAvx512Bf16, "avx512_bf16")};
constexpr std::array kPrecisions = {choice(Precision::kBf16, "bf16"), choice(Precision::kF32, "f32"),
                                    choice(Precision::kBf16, "bfloat16"), choice(Precision::kF32, "fp32"),
                                    choice(Precision::kF32, "float32")};
constexpr std::array kAlgorithms = {choice(Algorithm::kContinued, "continued"), choice(Algorithm::kSft, "sft")};
constexpr std::array kRecomputes = {choice(Recompute::kNone, "none"), choice(Recompute::kSelective, "selective"),
                                    choice(Recompute::kBlock, "block")};
constexpr std::array kOnNonfinites = {choice(OnNonfinite::kStop, "stop"), choice(OnNonfinite::kSkip, "skip")};
constexpr std::array kQuantisationAwares = {choice(QuantisationAware::kNone, "none"),
                                            choice(QuantisationAware::kFp4, "fp4")};
constexpr std::array kOptimizerNames = {
    choice(OptimizerName::kAdamW, "adamw"), choice(OptimizerName::kAdamW, "adamw_torch"),
    choice(OptimizerName::kAdamW, "adamw_torch_fused"), choice(OptimizerName::kMuon, "muon")};
constexpr std::array kStateTypes = {choice(StateType::kF32, "f32"), choice(StateType::kBf16, "bf16")};
constexpr std::array kOnLossSpikes = {choice(OnLossSpike::kContinue, "continue"),
                                      choice(OnLossSpike::kRollBack, "roll_back")};
constexpr std::array kDecays = {choice(Decay::kCosine, "cosine"), choice(Decay::kLinear, "linear"),
                                choice(Decay::kConstant, "constant"), choice(Decay::kCosine, "cosine_with_min_lr"),
                                choice(Decay::kConstant, "constant_with_warmup")};
constexpr std::array kOverlongs = {choice(Overlong::kError, "error"), choice(Overlong::kTruncate, "truncate"),
                                   choice(Overlong::kDrop, "drop")};
constexpr std::array kTrainOns = {choice(TrainOn::kAssistant, "assistant"),
                                  choice(TrainOn::kLastAssistant, "last_assistant"), choice(TrainOn::kAll, "all")};
constexpr std::array kSourceFormats = {
    choice(SourceFormat::kAuto, "auto"),         choice(SourceFormat::kMessages, "messages"),
    choice(SourceFormat::kShareGpt, "sharegpt"), choice(SourceFormat::kAlpaca, "alpaca"),
    choice(SourceFormat::kText, "text"),         choice(SourceFormat::kPromptCompletion, "prompt_completion")};

}  // namespace

std::span<const Choice> choices_of(DeviceKind) {
  return kDeviceKinds;
}
std::span<const Choice> choices_of(InstructionSet) {
  return kInstructionSets;
}
std::span<const Choice> choices_of(Precision) {
  return kPrecisions;
}
std::span<const Choice> choices_of(Algorithm) {
  return kAlgorithms;
}
std::span<const Choice> choices_of(Recompute) {
  return kRecomputes;
}
std::span<const Choice> choices_of(OnNonfinite) {
  return kOnNonfinites;
}
std::span<const Choice> choices_of(QuantisationAware) {
  return kQuantisationAwares;
}
std::span<const Choice> choices_of(OptimizerName) {
  return kOptimizerNames;
}
std::span<const Choice> choices_of(StateType) {
  return kStateTypes;
}
std::span<const Choice> choices_of(OnLossSpike) {
  return kOnLossSpikes;
}
std::span<const Choice> choices_of(Decay) {
  return kDecays;
}
std::span<const Choice> choices_of(Overlong) {
  return kOverlongs;
}
std::span<const Choice> choices_of(TrainOn) {
  return kTrainOns;
}
std::span<const Choice> choices_of(SourceFormat) {
  return kSourceFormats;
}

std::string choice_names(std::span<const Choice> choices) {
  std::set<int> named;
  std::string names;
  for (const Choice& choice : choices) {
    if (named.insert(choice.value).second) {
      names += names.empty() ? "" : ", ";
      names += choice.name;
    }
  }
  return named.size() == 1 ? names : "one of " + names;
}

int read_choice(const Node& node, std::string_view path, std::span<const Choice> choices) {
  std::vector<std::string> names;
  for (const Choice& choice : choices) {
    if (node.kind == Node::Kind::kScalar && node.text == choice.name) {
      return choice.value;
    }
    names.emplace_back(choice.name);
  }
  constexpr std::size_t kLongestWord = 64;
  const bool is_word = node.kind == Node::Kind::kScalar && node.text.size() <= kLongestWord;
  base::fail("{}: {}: expected {}, found {}{}", node.where, path, choice_names(choices), describe(node),
             is_word ? base::suggestion(node.text, names) : "");
}

}  // namespace flyover::recipe
