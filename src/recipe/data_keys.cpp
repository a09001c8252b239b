// The keys of a stage's data.
#include "recipe/schema.h"

namespace flyover::recipe {

const Section& section_of(const Data*) {
  static const Section section = {
      "What the stage trains on.",
      {key(&Data::train, {.name = "train",
                          .documentation = "The training examples: one source or a list of them. A string is the path "
                                           "of a file.",
                          .required = true}),
       key(&Data::validation,
           {.name = "validation", .documentation = "The validation examples, as `train`; `weight` has no effect."}),
       key(&Data::validation_split, {.name = "validation_split",
                                     .documentation = "Fraction of the training examples that is held out for "
                                                      "validation instead, chosen by the seed.",
                                     .range = between(0, 0.5),
                                     .aliases = {"val_size", "val_set_size"}}),
       key(&Data::max_seq_length, {.name = "max_seq_length",
                                   .documentation = "Tokens of the longest sequence.",
                                   .range = at_least(2),
                                   .aliases = {"max_length", "cutoff_len", "sequence_len"}}),
       key(&Data::overlong, {.name = "overlong",
                             .documentation = "What happens to longer examples: `error` stops before training, "
                                              "`truncate` cuts their end, `drop` leaves them out; both are counted "
                                              "and reported. An answer that `truncate` cuts has lost its end-of-turn "
                                              "token, so that the model does not learn to stop there; the report says "
                                              "how many there are. An example whose answer lies behind the cut is left "
                                              "out, and counted as dropped."}),
       key(&Data::packing, {.name = "packing",
                            .documentation = "What `batch.global_batch_size` counts: packs of `max_seq_length` tokens "
                                             "that hold as many whole examples as fit, or (`false`) examples. An "
                                             "example sees only itself in either case, and nothing is padded."}),
       key(&Data::train_on,
           {.name = "train_on",
            .documentation = "Which tokens count in the loss: what the `assistant` says with its "
                             "end-of-turn token, only its last turn, or `all`. Plain text needs `all`.",
            .default_text = "`assistant`; `all` in `continued` stages"}),
       key(&Data::shuffle, {.name = "shuffle",
                            .documentation = "A new order in each epoch, a function of the seed; otherwise the order "
                                             "of the files."}),
       key(&Data::show_examples, {.name = "show_examples",
                                  .documentation = "Examples printed before training, with the trained tokens "
                                                   "highlighted.",
                                  .range = at_least(0)})},
  };
  return section;
}

const Section& section_of(const Source*) {
  static const Section section = {
      "A source of examples: exactly one of `path` and `generate`.",
      {key(&Source::path,
           {.name = "path", .documentation = "A file of examples, JSONL or JSON.", .default_text = "none"}),
       key(&Source::generate,
           {.name = "generate", .documentation = "Name of a built-in generator of examples.", .default_text = "none"}),
       key(&Source::count, {.name = "count",
                            .documentation = "Examples to generate; needed with `generate` and only there.",
                            .range = at_least(0)}),
       key(&Source::format,
           {.name = "format",
            .documentation = "What a row looks like: `messages` (OpenAI), `sharegpt` (`conversations`), `alpaca` "
                             "(`instruction`, `input`, `output`), `prompt_completion`, `text`; `auto` tells by the "
                             "fields, and refuses rows with the fields of two formats. All rows of a source have the "
                             "same format."}),
       key(&Source::weight, {.name = "weight",
                             .documentation = "How often each example occurs in an epoch: 2 = twice, 0.5 = half of "
                                              "the examples.",
                             .range = above(0)}),
       key(&Source::limit, {.name = "limit",
                            .documentation = "Examples used, the first ones of the source; 0 = all.",
                            .range = at_least(0),
                            .aliases = {"max_samples"}}),
       key(&Source::messages_field, {.name = "messages_field",
                                     .documentation = "Field with the list of messages, for `messages` and "
                                                      "`sharegpt`; empty = the format's.",
                                     .aliases = {"field_messages"}}),
       key(&Source::prompt_field, {.name = "prompt_field",
                                   .documentation = "Field with the prompt, for `prompt_completion`; empty = "
                                                    "`prompt`."}),
       key(&Source::completion_field, {.name = "completion_field",
                                       .documentation = "Field with the completion, for `prompt_completion`; empty = "
                                                        "`completion`."}),
       key(&Source::text_field, {.name = "text_field",
                                 .documentation = "Field with the text, for `text`; empty = `text`.",
                                 .aliases = {"dataset_text_field"}})},
      "path",
  };
  return section;
}

}  // namespace flyover::recipe
