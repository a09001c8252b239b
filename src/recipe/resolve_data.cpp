#include "recipe/resolve.h"

namespace flyover::recipe {
namespace {

void check_fields(const Source& source, const Where& where) {
  struct Field {
    std::string_view key;
    const std::string& value;
    bool fits;
    std::string_view formats;
  };
  const SourceFormat format = source.format;
  const bool has_messages = format == SourceFormat::kMessages || format == SourceFormat::kShareGpt;
  const bool has_prompt = format == SourceFormat::kPromptCompletion;
  const Field fields[] = {
      {"messages_field", source.messages_field, has_messages, "messages or sharegpt"},
      {"prompt_field", source.prompt_field, has_prompt, "prompt_completion"},
      {"completion_field", source.completion_field, has_prompt, "prompt_completion"},
      {"text_field", source.text_field, format == SourceFormat::kText, "text"},
  };
  for (const Field& field : fields) {
    where.require(field.value.empty() || field.fits, field.key,
                  fmt::format("needs format: {} (the format is {})", field.formats, name_of(format)));
  }
}

void check_source(const Source& source, const Where& where) {
  where.require_one(!source.path.empty(), "path", !source.generate.empty(), "generate");
  if (source.generate.empty()) {
    where.require(source.count == 0, "count", "is for generate; use limit for the rows of a file");
  } else {
    where.require(source.count > 0, "count", "give the number of examples to generate");
  }
  check_fields(source, where);
}

}  // namespace

void resolve_data(Data& data, Algorithm algorithm, const Where& where) {
  where.require(!data.train.empty(), "train", "expected at least one source");
  for (std::size_t i = 0; i < data.train.size(); ++i) {
    check_source(data.train[i], where.element("train", i));
  }
  for (std::size_t i = 0; i < data.validation.size(); ++i) {
    check_source(data.validation[i], where.element("validation", i));
  }
  where.require_not_both(!data.validation.empty(), "validation", data.validation_split > 0, "validation_split");
  if (algorithm == Algorithm::kContinued) {
    where.require(data.train_on.value_or(TrainOn::kAll) == TrainOn::kAll, "train_on",
                  "the algorithm continued trains on all tokens (leave it out, or use the algorithm sft)");
    data.train_on = TrainOn::kAll;
  } else if (!data.train_on) {
    data.train_on = TrainOn::kAssistant;
  }
}

}  // namespace flyover::recipe
