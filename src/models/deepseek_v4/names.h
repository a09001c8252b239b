// What the tensors of a DeepSeek-V4 checkpoint are called. Three sets of names are in use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "models/language_model.h"

namespace flyover::models::deepseek_v4 {

enum class NameStyle : std::uint8_t {
  kPublished,     ///< "layers.0.attn.wq_a.weight"
  kTransformers,  ///< "model.layers.0.self_attn.q_a_proj.weight", the module names of transformers
  kSaved          ///< "model.layers.0.attn.wq_a.weight", what transformers 5 writes
};

/// Turns published names into those of a style.
class Names {
 public:
  explicit Names(NameStyle style) : style_(style) {}
  /// The style of a directory, told by its embedding and first layer; without a directory the published one. Where a
  /// style has a tensor under several names, the one that the directory has.
  static Names of(const StoredNames& stored);

  NameStyle style() const { return style_; }
  /// A tensor outside the layers: "embed.weight", "hc_head_fn", ...
  std::string top(std::string_view published) const;
  /// A tensor of layer `index`: "attn.wq_a.weight", ...
  std::string layer(std::int64_t index, std::string_view published) const;
  /// A tensor of the prediction block, which only the published style knows: "e_proj.weight", "attn.wq_a.weight", ...
  std::string prediction(std::string_view published) const;

 private:
  Names(NameStyle style, StoredNames stored);
  std::string renamed(std::int64_t index, std::string_view published) const;
  std::string layer_prefix(std::int64_t index) const;
  /// "model." where the directory has this published name with it.
  std::string prefix_of(std::string_view published) const;

  NameStyle style_;
  StoredNames stored_;
  std::string prefix_;  ///< of published names of layers
};

/// What a directory with names of this style would say of them, with a prediction block or without: transformers' own
/// style has the experts of a layer merged, the others have them one by one.
StoredNames stored_names_of(NameStyle style, bool prediction);

}  // namespace flyover::models::deepseek_v4
