// The keys of a stage, but for its data.
#include "recipe/schema.h"

namespace flyover::recipe {

const Section& section_of(const Stage*) {
  static const Section section = {
      "A stage. Steps are optimizer steps.",
      {key(&Stage::name, {.name = "name",
                          .documentation = "Name of the stage in messages, in `--set` and in the run directory: "
                                           "letters, digits, `_`, `-`, starting with a letter. Unique.",
                          .default_text = "the algorithm's"}),
       key(&Stage::algorithm, {.name = "algorithm",
                               .documentation = "`continued` trains on all tokens of text (continued pre-training); "
                                                "`sft` on the assistant's part of conversations (supervised "
                                                "fine-tuning). Both update every parameter.",
                               .required = true}),
       key(&Stage::data, {.name = "data", .documentation = "What it trains on.", .required = true}),
       key(&Stage::chat_template,
           {.name = "chat_template",
            .documentation = "How conversations become text: the name of a built-in template (`chatml`, `deepseek_v4`, "
                             "`llama3`, `plain`) or the path of a Jinja file, which has a `.` or `/`; empty = the "
                             "model's own."}),
       key(&Stage::end_of_turn,
           {.name = "end_of_turn",
            .documentation = "The token that ends what the assistant says in a Jinja file or in the model's own "
                             "template, such as `<end_of_turn>`: a special token, added to the vocabulary where the "
                             "tokenizer has none. The written model stops at it. Empty = the template's `eos_token`; a "
                             "built-in template brings its own.",
            .aliases = {"eos_token"}}),
       key(&Stage::special_tokens,
           {.name = "special_tokens",
            .documentation = "Further special tokens that such a template writes, as in `[<start_of_turn>]`, added to "
                             "the vocabulary where the tokenizer has none. The row of a new token is the mean of the "
                             "old rows.",
            .range = not_empty(),
            .aliases = {"new_special_tokens", "add_special_tokens"}}),
       key(&Stage::chat_template_date,
           {.name = "chat_template_date",
            .documentation = "The date that a template sees which asks for today's (`strftime_now`), as in "
                             "`2026-01-31`; empty = such a template is refused, because no two runs would be the "
                             "same."}),
       key(&Stage::chat_template_kwargs,
           {.name = "chat_template_kwargs",
            .documentation =
                "Values of the template's variables, passed on as they are, such as `{thinking: true, "
                "reasoning_effort: max}` for `deepseek_v4`; a row's own `chat_template_kwargs` go first."}),
       key(&Stage::optimizer,
           {.name = "optimizer", .documentation = "How gradients become updates.", .required = true}),
       key(&Stage::schedule, {.name = "schedule",
                              .documentation = "How long it trains, and the learning rate over time.",
                              .required = true}),
       key(&Stage::batch, {.name = "batch", .documentation = "How much one step sees.", .required = true}),
       key(&Stage::recompute,
           {.name = "recompute",
            .documentation = "What is computed again in the backward pass to save memory: nothing, cheap operations "
                             "(`selective`), or all of each `block`. Does not change the result."}),
       key(&Stage::on_nonfinite,
           {.name = "on_nonfinite",
            .documentation = "What happens when the loss or a gradient is not finite: `stop` the run, or `skip` the "
                             "step and count it. A validation loss or a weight that is not finite always stops it."}),
       key(&Stage::quantisation_aware,
           {.name = "quantisation_aware",
            .documentation = "`fp4`: the forward pass sees each routed expert's weights, and the queries and keys of "
                             "indexers, as FP4 holds them, while gradients move the f32 masters; the model written is "
                             "one that `flyover convert --to fp4-experts` stores without loss. For families whose "
                             "experts are published in FP4 (DeepSeek-V4)."}),
       key(&Stage::mixture_of_experts,
           {.name = "mixture_of_experts",
            .documentation = "What such a model is trained on besides the next token; other models have no use for "
                             "it."}),
       key(&Stage::loss_spike, {.name = "loss_spike", .documentation = "What happens when the loss jumps."}),
       key(&Stage::checkpoint, {.name = "checkpoint", .documentation = "When the state is saved."}),
       key(&Stage::validation, {.name = "validation", .documentation = "When held-out examples are scored."}),
       key(&Stage::logging, {.name = "logging", .documentation = "What is reported."})},
      "",
      {"name", "algorithm"},
  };
  return section;
}

const Section& section_of(const Optimizer*) {
  static const Section section = {
      "How gradients become updates.",
      {key(&Optimizer::name,
           {.name = "name",
            .documentation = "`adamw`, or `muon`: updates of matrices are made orthogonal (each expert's "
                             "on its own); embeddings, output layer, norms, biases and scalars stay "
                             "with AdamW.",
            .aliases = {"optim"}}),
       key(&Optimizer::learning_rate, {.name = "learning_rate",
                                       .documentation = "Learning rate at its peak, after the warm-up.",
                                       .range = above_up_to(0, 1),
                                       .aliases = {"lr"},
                                       .required = true}),
       key(&Optimizer::betas, {.name = "betas",
                               .documentation = "Decay of AdamW's first and second moment.",
                               .range = from_up_to_below(0, 1)}),
       key(&Optimizer::epsilon, {.name = "epsilon",
                                 .documentation = "AdamW's term against division by zero.",
                                 .range = above(0),
                                 .aliases = {"adam_epsilon", "eps"}}),
       key(&Optimizer::weight_decay,
           {.name = "weight_decay",
            .documentation = "Decoupled decay of matrices per unit of learning rate; norms and biases never decay. "
                             "(The Hugging Face trainer's default is 0.)",
            .range = between(0, 10)}),
       key(&Optimizer::max_grad_norm, {.name = "max_grad_norm",
                                       .documentation = "Norm over all gradients above which they are scaled down to "
                                                        "it; 0 = never.",
                                       .range = at_least(0),
                                       .aliases = {"clip_grad", "gradient_clipping"}}),
       key(&Optimizer::momentum,
           {.name = "momentum", .documentation = "Decay of Muon's momentum.", .range = from_up_to_below(0, 1)}),
       key(&Optimizer::update_rms, {.name = "update_rms",
                                    .documentation = "Root mean square of the elements of Muon's update of a matrix, "
                                                     "per unit of learning rate: about AdamW's, so that both share "
                                                     "one learning rate.",
                                    .range = above(0)}),
       key(&Optimizer::state,
           {.name = "state",
            .documentation = "Number format in which the optimizer keeps moments and momentum. `bf16` "
                             "halves their memory; `betas[1]` must then be at most 0.995."}),
       key(&Optimizer::parameter_groups, {.name = "parameter_groups",
                                          .documentation = "Other settings for some parameters; the first group whose "
                                                           "pattern matches counts."})},
  };
  return section;
}

const Section& section_of(const ParameterGroup*) {
  static const Section section = {
      "Settings for the parameters whose name matches; what is not given is the optimizer's.",
      {key(&ParameterGroup::pattern, {.name = "pattern",
                                      .documentation = "The parameter's whole name; `*` stands for any characters, as "
                                                       "in `\"*embed_tokens*\"`. Query, key and value projections of a "
                                                       "layer are one parameter, gate and up projections another: a "
                                                       "pattern must match all of them or none.",
                                      .range = not_empty(),
                                      .required = true}),
       key(&ParameterGroup::learning_rate, {.name = "learning_rate",
                                            .documentation = "Learning rate at its peak.",
                                            .range = above_up_to(0, 1),
                                            .aliases = {"lr"},
                                            .default_text = "the optimizer's"}),
       key(&ParameterGroup::weight_decay, {.name = "weight_decay",
                                           .documentation = "Weight decay, also for norms and biases.",
                                           .range = between(0, 10),
                                           .default_text = "the optimizer's"}),
       key(&ParameterGroup::optimizer,
           {.name = "optimizer",
            .documentation = "Where the stage's optimizer is `muon`: which one updates these parameters. Muon updates "
                             "matrices only.",
            .default_text = "by the parameter's kind"}),
       key(&ParameterGroup::frozen, {.name = "frozen", .documentation = "The parameters are not trained."})},
  };
  return section;
}

const Section& section_of(const Schedule*) {
  static const Section section = {
      "How long the stage trains (`epochs`, `max_steps`, or whichever ends first), and the learning rate over time.",
      {key(&Schedule::epochs, {.name = "epochs",
                               .documentation = "Passes over the training examples; fractions are allowed.",
                               .range = above(0),
                               .aliases = {"num_train_epochs", "num_epochs"}}),
       key(&Schedule::max_steps, {.name = "max_steps", .documentation = "Steps of training.", .range = at_least(1)}),
       key(&Schedule::warmup_ratio, {.name = "warmup_ratio",
                                     .documentation = "Fraction of all steps over which the learning rate rises "
                                                      "linearly to its peak.",
                                     .range = between(0, 1),
                                     .default_text = "`0.03` without `warmup_steps`"}),
       key(&Schedule::warmup_steps, {.name = "warmup_steps",
                                     .documentation = "The same in steps, instead of `warmup_ratio`.",
                                     .range = at_least(0)}),
       key(&Schedule::decay, {.name = "decay",
                              .documentation = "How the learning rate falls from its peak to the last step.",
                              .aliases = {"lr_scheduler_type", "lr_scheduler"}}),
       key(&Schedule::min_learning_rate_ratio, {.name = "min_learning_rate_ratio",
                                                .documentation = "The learning rate at the last step as a fraction of "
                                                                 "the peak, for `cosine` and `linear`.",
                                                .range = between(0, 1)})},
  };
  return section;
}

const Section& section_of(const Batch*) {
  static const Section section = {
      "How much one step sees: exactly one of `global_batch_size` and `global_batch_tokens`. How that is cut into "
      "micro-batches changes memory and speed, not what is computed.",
      {key(&Batch::global_batch_size,
           {.name = "global_batch_size",
            .documentation = "Sequences of a step, over all devices and micro-batches: packs of "
                             "`max_seq_length` tokens, or single examples where `packing` "
                             "is off.",
            .range = between(1, static_cast<double>(kMostBatchSequences))}),
       key(&Batch::global_batch_tokens, {.name = "global_batch_tokens",
                                         .documentation = "Tokens that a step holds at most, in whole sequences.",
                                         .range = between(1, static_cast<double>(kMostBatchTokens))}),
       key(&Batch::micro_batch_tokens, {.name = "micro_batch_tokens",
                                        .documentation = "Tokens computed at a time; 0 = chosen by the memory plan and "
                                                         "written to the resolved recipe.",
                                        .range = at_least(0)}),
       key(&Batch::per_device_train_batch_size,
           {.name = "per_device_train_batch_size",
            .documentation = "Accepted from Hugging Face recipes: times `gradient_accumulation_steps` it is "
                             "`global_batch_size`, on however many devices.",
            .range = at_least(1),
            .aliases = {"micro_batch_size"},
            .input_only = true}),
       key(&Batch::gradient_accumulation_steps,
           {.name = "gradient_accumulation_steps",
            .documentation = "Accepted from Hugging Face recipes, with `per_device_train_batch_size`.",
            .range = at_least(1),
            .default_text = "1",
            .input_only = true})},
  };
  return section;
}

const Section& section_of(const MixtureOfExperts*) {
  static const Section section = {
      "What mixture-of-experts models are trained on besides the next token. The defaults are those of DeepSeek-V4's "
      "last training phase.",
      {key(&MixtureOfExperts::mtp_loss_weight,
           {.name = "mtp_loss_weight",
            .documentation = "Weight of the loss of predicting the token after the next (multi-token prediction); 0 = "
                             "the block that does it stays as it is.",
            .range = at_least(0),
            .aliases = {"mtp_loss_scaling_factor"}}),
       key(&MixtureOfExperts::balance_loss_weight,
           {.name = "balance_loss_weight",
            .documentation = "Weight of the loss that spreads the tokens of each sequence over the experts "
                             "(DeepSeek-V3 report, equations 17 to 20), in every family, as a sum over the layers: not "
                             "the loss over the whole batch that `router_aux_loss_coef` weighs elsewhere.",
            .range = at_least(0),
            .aliases = {"router_aux_loss_coef"}}),
       key(&MixtureOfExperts::balance_hash_layers,
           {.name = "balance_hash_layers",
            .documentation = "Whether that loss counts layers that route by a table, too: it moves the scores with "
                             "which they weigh their experts, not which experts they take."}),
       key(&MixtureOfExperts::bias_update_speed,
           {.name = "bias_update_speed",
            .documentation = "What a step adds to or takes from the bias with which a router favours each expert, to "
                             "balance their loads; 0 = biases stay as they are.",
            .range = at_least(0)}),
       key(&MixtureOfExperts::indexer_loss_weight,
           {.name = "indexer_loss_weight",
            .documentation = "Weight of the loss by which the indexers of compressed sparse attention learn what "
                             "attention looks at; 0 = they stay as they are.",
            .range = at_least(0)})},
  };
  return section;
}

const Section& section_of(const LossSpike*) {
  static const Section section = {
      "A loss far above those of the steps before it. Rolling back needs a mixture-of-experts model: what is different "
      "the second time is the routing.",
      {key(&LossSpike::action,
           {.name = "action",
            .documentation = "`continue`: it is reported (`loss_spike` in metrics.jsonl). `roll_back`: go on from the "
                             "last checkpoint, for some steps with anticipatory routing: experts are chosen by the "
                             "weights of some steps before."}),
       key(&LossSpike::deviations,
           {.name = "deviations",
            .documentation = "A loss counts as a spike when it is this many standard deviations "
                             "(of at least 1 % of the mean) above the mean of the window.",
            .range = above(0)}),
       key(&LossSpike::window, {.name = "window",
                                .documentation = "Steps whose losses a new loss is compared with; before there are so "
                                                 "many, no loss is a spike.",
                                .range = between(2, 100000)}),
       key(&LossSpike::anticipatory_steps, {.name = "anticipatory_steps",
                                            .documentation = "Steps of anticipatory routing after a rollback. Spikes "
                                                             "in them are reported only.",
                                            .range = at_least(1)}),
       key(&LossSpike::anticipatory_delay,
           {.name = "anticipatory_delay",
            .documentation = "How many steps before a step its experts are chosen. The choices of so many steps are "
                             "kept in memory.",
            .range = between(1, 1000)}),
       key(&LossSpike::max_rollbacks, {.name = "max_rollbacks",
                                       .documentation = "Rollbacks of a stage; the spike after that ends the run with "
                                                        "an error.",
                                       .range = at_least(1)})},
  };
  return section;
}

const Section& section_of(const Checkpoint*) {
  static const Section section = {
      "When the state is saved, from which `--resume` continues to the same bits.",
      {key(&Checkpoint::every_steps, {.name = "every_steps",
                                      .documentation = "Steps between checkpoints; 0 = only at the end.",
                                      .range = at_least(0),
                                      .aliases = {"save_steps"}}),
       key(&Checkpoint::keep, {.name = "keep",
                               .documentation = "Newest checkpoints that stay on the disk.",
                               .range = at_least(1),
                               .aliases = {"save_total_limit"}}),
       key(&Checkpoint::keep_best, {.name = "keep_best",
                                    .documentation = "Also keep the one with the lowest validation loss, where there "
                                                     "is validation data."})},
  };
  return section;
}

const Section& section_of(const Validation*) {
  static const Section section = {
      "When the loss on validation examples is computed.",
      {key(&Validation::every_steps,
           {.name = "every_steps",
            .documentation = "Steps between validations; the first is before the first step. 0 = only at the end.",
            .range = at_least(0),
            .aliases = {"eval_steps"}}),
       key(&Validation::max_tokens, {.name = "max_tokens",
                                     .documentation = "Validation tokens used, in whole sequences from the first; 0 = "
                                                      "all.",
                                     .range = at_least(0)})},
  };
  return section;
}

const Section& section_of(const Logging*) {
  static const Section section = {
      "What is reported.",
      {key(&Logging::every_steps, {.name = "every_steps",
                                   .documentation = "Steps between lines of progress and of `metrics.jsonl`.",
                                   .range = at_least(1),
                                   .aliases = {"logging_steps"}}),
       key(&Logging::tensorboard, {.name = "tensorboard", .documentation = "Also write TensorBoard events."})},
  };
  return section;
}

}  // namespace flyover::recipe
