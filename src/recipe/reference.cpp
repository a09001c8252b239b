// The reference page, from the lists of keys.
#include <set>

#include <fmt/format.h>

#include "recipe/schema.h"

namespace flyover::recipe {
namespace {

constexpr std::string_view kIntroduction = R"(# Recipe reference

This page is generated from the code: `flyover inspect recipe-reference > docs/recipe.md`.

A recipe is a YAML mapping. `flyover run recipe.yaml` checks all of it before anything starts, and writes it with every
default filled in to `recipe.yaml` in the run directory; that file is a recipe too, and gives the same run. The
shortest recipes look like this:

```yaml
run_directory: runs/first
model: models/SmolLM2-135M
stages:
  - algorithm: sft
    data: {train: data/conversations.jsonl, validation_split: 0.02}
    optimizer: {learning_rate: 2e-5}
    schedule: {epochs: 2}
    batch: {global_batch_size: 32}
```

* **Unknown keys are errors**, with the nearest known key suggested; so is a key that is given twice.
* **Paths** are relative to the working directory, not to the recipe, unless they are absolute.
* **Numbers** are decimal: `0.0001` or `1e-4`; not `0x10`, `1_000` or `"5"`. Booleans are `true` and `false` only. Where
  a string is expected, `no`, `on` and `1.0` are strings.
* **Steps** are optimizer steps; **tokens** are counted after the chat template, special tokens included.
* **Other systems' names** of a key, and of a value such as `constant_with_warmup` or `float32`, are accepted; the
  resolved recipe has ours.
* **Overrides**: `--set path.to.key=value`, with the value in YAML: `--set stages[0].optimizer.learning_rate=1e-4`, also
  `stages.0.optimizer.learning_rate` or, by the stage's name, `stages.sft.optimizer.learning_rate`. `null` takes the key
  out: `--set stages.sft.schedule.epochs=null`.
* Anchors, aliases and merge keys (`<<`) work. Tags do not.
)";

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += fmt::format("{}`{}`", text.empty() ? "" : ", ", name);
  }
  return text;
}

std::string row(const Key& key) {
  std::string meaning = key.text.documentation;
  if (!key.text.aliases.empty()) {
    meaning += fmt::format(" Also: {}.", joined(key.text.aliases));
  }
  return fmt::format("| `{}` | {} | {} | {} |\n", key.text.name, key.expected, key.default_text, meaning);
}

void write_sections(const Section& section, const std::string& path, std::set<const Section*>& seen, std::string& out) {
  out += path.empty() ? "\n## Top level\n\n" : fmt::format("\n## `{}`\n\n", path);
  out += section.documentation + "\n\n| key | value | default | meaning |\n|---|---|---|---|\n";
  for (const Key& key : section.keys) {
    out += row(key);
  }
  for (const Key& key : section.keys) {
    // A section that occurs twice (training and validation sources) is described once.
    if (key.section != nullptr && seen.insert(key.section).second) {
      write_sections(*key.section, join_path(path, key.text.name) + (key.is_list ? "[]" : ""), seen, out);
    }
  }
}

}  // namespace

std::string reference_markdown() {
  std::string out(kIntroduction);
  std::set<const Section*> seen;
  write_sections(section_of(static_cast<const Recipe*>(nullptr)), "", seen, out);
  return out;
}

}  // namespace flyover::recipe
