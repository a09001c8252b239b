// The keys of a recipe outside its stages.
#include "base/threads.h"
#include "recipe/schema.h"

namespace flyover::recipe {

const Section& section_of(const Recipe*) {
  static const Section section = {
      "A recipe.",
      {key(&Recipe::run_directory,
           {.name = "run_directory",
            .documentation = "Directory that the run writes: the resolved recipe, metrics, checkpoints and the trained "
                             "`model/`. It must not hold another run.",
            .range = not_empty(),
            .aliases = {"output_dir"},
            .required = true}),
       key(&Recipe::model,
           {.name = "model",
            .documentation = "The model to start from. A string is the path of a Hugging Face directory.",
            .aliases = {"model_name_or_path", "base_model"},
            .required = true}),
       key(&Recipe::stages, {.name = "stages",
                             .documentation = "The stages, which run in this order, each on the weights of the one "
                                              "before. At least one.",
                             .required = true}),
       key(&Recipe::evaluate, {.name = "evaluate",
                               .documentation = "Generated questions that the model answers before the first and "
                                                "after the last stage."}),
       key(&Recipe::seed,
           {.name = "seed",
            .documentation = "The key of all random numbers: initial weights, order of the data, generated examples, "
                             "sampling. Same recipe, data and seed: same bits."}),
       key(&Recipe::precision, {.name = "precision",
                                .documentation = "Number format of the computation. Master weights, gradients and "
                                                 "optimizer state are f32 in either case.",
                                .aliases = {"torch_dtype"}}),
       key(&Recipe::device, {.name = "device",
                             .documentation = "Where the computation runs. `reference` is the slow device that "
                                              "defines what every other must compute."}),
       key(&Recipe::threads,
           {.name = "threads",
            .documentation = "Threads of the computation; 0 = all cores that the process may use. Never changes "
                             "results.",
            .range = between(0, base::kMostThreads)}),
       key(&Recipe::instruction_set,
           {.name = "instruction_set",
            .documentation = "Instructions of the CPU to use; `auto` = the fastest it has. A run "
                             "keeps its own when it is resumed: others give other bits."}),
       key(&Recipe::memory_limit,
           {.name = "memory_limit",
            .documentation = "Memory that the run may take, for example `20GiB`; empty = what the machine and "
                             "the limits of this process leave. The size of the micro-batch follows from it."})},
  };
  return section;
}

const Section& section_of(const Model*) {
  static const Section section = {
      "The model to start from: exactly one of `path` and `random`.",
      {key(&Model::path, {.name = "path",
                          .documentation = "A Hugging Face model directory: `config.json`, `*.safetensors`, "
                                           "`tokenizer.json`.",
                          .default_text = "none"}),
       key(&Model::random, {.name = "random", .documentation = "A new model with random weights."})},
      "path",
  };
  return section;
}

const Section& section_of(const RandomModel*) {
  static const Section section = {
      "A new model with random weights, drawn with the recipe's seed.",
      {key(&RandomModel::config,
           {.name = "config",
            .documentation = "The keys of a Hugging Face `config.json` (`model_type`, `hidden_size`, ...), passed on "
                             "as they are. Where `vocab_size` is missing, it is the tokenizer's.",
            .required = true}),
       key(&RandomModel::tokenizer,
           {.name = "tokenizer",
            .documentation = "The tokenizer. A string is the path of a `tokenizer.json` or of its directory.",
            .required = true})},
  };
  return section;
}

const Section& section_of(const TokenizerChoice*) {
  static const Section section = {
      "The tokenizer of a new model: exactly one of `path` and `train_bpe`.",
      {key(&TokenizerChoice::path, {.name = "path",
                                    .documentation = "A `tokenizer.json` or the directory that holds one.",
                                    .default_text = "none"}),
       key(&TokenizerChoice::train_bpe,
           {.name = "train_bpe",
            .documentation = "A byte-level BPE tokenizer, trained on the training text of the first stage."})},
      "path",
  };
  return section;
}

const Section& section_of(const TrainBpe*) {
  static const Section section = {
      "A byte-level BPE tokenizer to be trained.",
      {key(&TrainBpe::vocabulary_size, {.name = "vocabulary_size",
                                        .documentation = "Tokens of the vocabulary, the 256 bytes included.",
                                        .range = at_least(257),
                                        .aliases = {"vocab_size"},
                                        .required = true}),
       key(&TrainBpe::samples, {.name = "samples",
                                .documentation = "Training examples that it is trained on, the first ones.",
                                .range = at_least(1)})},
  };
  return section;
}

const Section& section_of(const EvaluationTask*) {
  static const Section section = {
      "A kind of generated question, answered greedily and scored by exact match.",
      {key(&EvaluationTask::generate, {.name = "generate",
                                       .documentation = "Name of a built-in generator.",
                                       .range = not_empty(),
                                       .required = true}),
       key(&EvaluationTask::count, {.name = "count",
                                    .documentation = "Questions asked of each kind.",
                                    .range = between(1, static_cast<double>(kMostTokens))}),
       key(&EvaluationTask::max_new_tokens, {.name = "max_new_tokens",
                                             .documentation = "Tokens after which an answer is cut off.",
                                             .range = between(1, static_cast<double>(kMostTokens))})},
  };
  return section;
}

}  // namespace flyover::recipe
