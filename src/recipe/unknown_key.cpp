// What to say about a key that a mapping does not have: the nearest one, where it belongs, or what to write instead.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/text.h"
#include "recipe/schema.h"

namespace flyover::recipe {
namespace {

constexpr std::size_t kLongestWord = 64;  // no key is longer, and distances to longer words take long

struct Advice {
  std::string_view key;
  std::string_view text;
};

/// Keys of other systems (Hugging Face trainers, Axolotl, LLaMA-Factory) that have no namesake here.
constexpr std::array kAdvice = {
    Advice{"gradient_checkpointing", "write \"recompute: block\" or \"recompute: selective\" in the stage"},
    Advice{"bf16", "write \"precision: bf16\" at the top"},
    Advice{"fp16", "write \"precision: bf16\" or \"precision: f32\" at the top"},
    Advice{"dataset", "write the file as \"train\" in the stage's \"data\""},
    Advice{"datasets", "write the files as \"train\" in the stage's \"data\""},
    Advice{"train_file", "write the file as \"train\" in the stage's \"data\""},
    Advice{"adam_beta1", "write \"betas: [0.9, 0.95]\" in the stage's \"optimizer\""},
    Advice{"adam_beta2", "write \"betas: [0.9, 0.95]\" in the stage's \"optimizer\""},
    Advice{"resume_from_checkpoint", "use \"flyover run RECIPE --resume\""},
    Advice{"report_to", "write \"tensorboard: true\" in the stage's \"logging\""},
    Advice{"sample_packing", "write \"packing: true\" in the stage's \"data\""},
    Advice{"per_device_eval_batch_size", "it follows from \"micro_batch_tokens\""},
    Advice{"use_lora", "every parameter is trained, there are no adapters"},
    Advice{"lora_r", "every parameter is trained, there are no adapters"},
    Advice{"adapter", "every parameter is trained, there are no adapters"},
    Advice{"load_in_4bit", "weights are trained in f32 masters; for experts in FP4 see quantisation_aware"},
    Advice{"load_in_8bit", "weights are trained in f32 masters; for experts in FP4 see quantisation_aware"},
};

/// The paths of all mappings that have a key or alias of this name.
void find_homes(const Section& section, std::string_view name, const std::string& path,
                std::vector<std::string>& homes) {
  if (find_key(section, name) != nullptr) {
    homes.push_back(path);
  }
  for (const Key& key : section.keys) {
    if (key.section != nullptr) {
      find_homes(*key.section, name, join_path(path, key.text.name) + (key.is_list ? "[]" : ""), homes);
    }
  }
}

/// A key as paths show it: in quotes where it is not a word.
std::string displayed(std::string_view name) {
  const bool is_word =
      !name.empty() && name.size() <= kLongestWord && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
      });
  return is_word ? std::string(name) : quote(name);
}

std::string help(const Section& section, std::string_view name) {
  if (const auto found = std::find_if(kAdvice.begin(), kAdvice.end(), [&](const Advice& a) { return a.key == name; });
      found != kAdvice.end()) {
    return fmt::format("; {}", found->text);
  }
  std::vector<std::string> names;
  std::string known;
  for (const Key& key : section.keys) {
    known += (known.empty() ? "" : ", ") + key.text.name;
    names.push_back(key.text.name);
    names.insert(names.end(), key.text.aliases.begin(), key.text.aliases.end());
  }
  std::vector<std::string> homes;
  find_homes(section_of(static_cast<const Recipe*>(nullptr)), name, "", homes);
  if (homes.size() == 1) {
    return fmt::format("; it belongs {}", homes[0].empty() ? "at the top of the recipe" : "in " + homes[0]);
  }
  const std::string near = name.size() <= kLongestWord ? base::suggestion(name, names) : "";
  return near.empty() ? fmt::format("; known here: {}", known) : near;
}

}  // namespace

void refuse_unknown_key(const Section& section, std::string_view name, std::string_view where, std::string_view path) {
  base::fail("{}: {}: unknown key{}", where, join_path(path, displayed(name)), help(section, name));
}

}  // namespace flyover::recipe
