#include "posttrain/stage_data.h"

#include <cmath>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "data/generators.h"
#include "data/rows.h"

namespace flyover::posttrain {
namespace {

using data::Document;
using data::RowFormat;

data::FieldNames field_names(const recipe::Source& source) {
  data::FieldNames names;
  const auto set = [](std::string& name, const std::string& value) {
    if (!value.empty()) {
      name = value;
    }
  };
  set(names.messages, source.messages_field);
  set(names.conversations, source.messages_field);
  set(names.prompt, source.prompt_field);
  set(names.completion, source.completion_field);
  set(names.text, source.text_field);
  return names;
}

std::optional<RowFormat> fixed_format(recipe::SourceFormat format) {
  switch (format) {
    case recipe::SourceFormat::kAuto:
      return std::nullopt;
    case recipe::SourceFormat::kMessages:
      return RowFormat::kMessages;
    case recipe::SourceFormat::kShareGpt:
      return RowFormat::kShareGpt;
    case recipe::SourceFormat::kAlpaca:
      return RowFormat::kAlpaca;
    case recipe::SourceFormat::kPromptCompletion:
      return RowFormat::kPromptCompletion;
    case recipe::SourceFormat::kText:
      return RowFormat::kText;
  }
  return std::nullopt;
}

data::Overlong overlong_of(recipe::Overlong policy) {
  switch (policy) {
    case recipe::Overlong::kTruncate:
      return data::Overlong::kTruncate;
    case recipe::Overlong::kDrop:
      return data::Overlong::kDrop;
    case recipe::Overlong::kError:
      break;
  }
  return data::Overlong::kError;
}

data::TrainOn train_on_of(recipe::TrainOn choice) {
  switch (choice) {
    case recipe::TrainOn::kLastAssistant:
      return data::TrainOn::kLastAssistant;
    case recipe::TrainOn::kAll:
      return data::TrainOn::kAll;
    case recipe::TrainOn::kAssistant:
      break;
  }
  return data::TrainOn::kAssistant;
}

std::string name_of(const recipe::Source& source) {
  return source.path.empty() ? source.generate : source.path;
}

/// Holds out the fraction of sequences that the recipe gives, chosen by the seed.
void split_validation(StageData& stage_data, const recipe::Stage& stage, std::uint64_t seed) {
  const double fraction = stage.data.validation_split;
  const std::size_t count = stage_data.train.sequences.size();
  const auto held_out = static_cast<std::size_t>(std::llround(fraction * static_cast<double>(count)));
  base::require(held_out > 0 && held_out < count,
                "{} {} of {} examples leaves nothing on one side: give a validation file",
                stage.origin.at("data.validation_split"), fraction, count);
  const base::Permutation permutation(base::Random(seed, base::RandomPurpose::kDataOrder, UINT64_MAX), count);
  std::vector<bool> chosen(count, false);
  for (std::size_t i = 0; i < held_out; ++i) {
    chosen[permutation(i)] = true;
  }
  stage_data.validation.source_names = stage_data.train.source_names;
  stage_data.validation.source_weights = stage_data.train.source_weights;
  std::vector<data::Sequence> kept;
  for (std::size_t i = 0; i < count; ++i) {
    auto& target = chosen[i] ? stage_data.validation.sequences : kept;
    target.push_back(std::move(stage_data.train.sequences[i]));
  }
  stage_data.train.sequences = std::move(kept);
}

}  // namespace

void for_each_document(const recipe::Source& source, std::uint64_t seed,
                       const std::function<bool(const Document&, const std::string&, std::int64_t)>& visit) {
  if (!source.generate.empty()) {
    const std::int64_t count = source.limit > 0 ? std::min(source.limit, source.count) : source.count;
    for (std::int64_t i = 0; i < count; ++i) {
      const Document document = data::generate_document(source.generate, seed, static_cast<std::uint64_t>(i));
      if (!visit(document, fmt::format("{}:{}", source.generate, i + 1), i + 1)) {
        return;
      }
    }
    return;
  }
  const data::FieldNames names = field_names(source);
  const std::optional<RowFormat> fixed = fixed_format(source.format);
  std::optional<RowFormat> format = fixed;
  std::int64_t rows = 0;
  data::for_each_row(source.path, [&](const data::DataRow& row) {
    const RowFormat found = fixed ? *fixed : data::detect_format(row.value, names, row.where);
    if (!format) {
      format = found;
    }
    base::require(found == *format,
                  "{}: a row in the format {} among rows in the format {}: put them into separate files", row.where,
                  data::name_of(found), data::name_of(*format));
    ++rows;
    return visit(data::parse_row(row.value, found, names, row.where), row.where, row.number) &&
           (source.limit == 0 || rows < source.limit);
  });
}

StageData load_data(const recipe::Stage& stage, std::uint64_t seed, const StartingModel& model) {
  data::ExampleOptions options;
  options.max_seq_length = stage.data.max_seq_length;
  options.overlong = overlong_of(stage.data.overlong);
  options.train_on = train_on_of(stage.data.train_on.value_or(recipe::TrainOn::kAssistant));
  options.end_of_text = model.end_of_text;
  const data::ExampleBuilder builder(model.tokenizer, model.chat_template ? &*model.chat_template : nullptr, options);
  StageData result;
  const auto read = [&](const std::vector<recipe::Source>& sources, std::uint64_t source_seed, data::Dataset& dataset,
                        const std::string& label) {
    for (std::size_t index = 0; index < sources.size(); ++index) {
      data::SourceReport report;
      report.name = label + name_of(sources[index]);
      dataset.source_names.push_back(name_of(sources[index]));
      dataset.source_weights.push_back(sources[index].weight);
      for_each_document(sources[index], source_seed + index,
                        [&](const Document& document, const std::string& where, std::int64_t row) {
                          builder.add(document, where, static_cast<std::int64_t>(index), row, dataset, report);
                          return true;
                        });
      base::require(report.rows > 0, "{}: has no rows", report.name);
      base::require(report.sequences > 0, "{}: none of its {} rows can be trained on (all too long?)", report.name,
                    report.rows);
      result.reports.push_back(std::move(report));
    }
  };
  constexpr std::uint64_t kValidationSeed = 1'000'003;  // generated validation rows are not the training rows
  read(stage.data.train, seed, result.train, "");
  read(stage.data.validation, seed + kValidationSeed, result.validation, "validation: ");
  if (stage.data.validation_split > 0) {
    split_validation(result, stage, seed);
  }
  return result;
}

std::string training_text(const recipe::Stage& stage, std::uint64_t seed, std::int64_t samples) {
  std::string text;
  std::int64_t taken = 0;
  for (std::size_t index = 0; index < stage.data.train.size() && taken < samples; ++index) {
    for_each_document(stage.data.train[index], seed + index,
                      [&](const Document& document, const std::string&, std::int64_t) {
                        if (const auto* plain = std::get_if<std::string>(&document)) {
                          text += *plain + "\n";
                        } else {
                          for (const data::Message& message : std::get<data::Conversation>(document).messages) {
                            text += data::content_text(message).value_or("") + "\n";
                          }
                        }
                        return ++taken < samples;
                      });
  }
  return text;
}

std::string format_reports(const std::vector<data::SourceReport>& reports) {
  std::string text;
  for (const data::SourceReport& report : reports) {
    text += fmt::format("data: {}: {} rows, {} sequences, {} tokens, {} trained on", report.name,
                        base::format_count(report.rows), base::format_count(report.sequences),
                        base::format_count(report.tokens), base::format_count(report.targets));
    const auto append = [&](std::int64_t count, std::string_view what) {
      if (count > 0) {
        text += fmt::format(", {} {}", base::format_count(count), what);
      }
    };
    append(report.truncated, "truncated");
    append(report.without_end, "of which lost the end-of-turn token");
    append(report.dropped, "dropped");
    append(report.split, "documents split");
    text += "\n";
  }
  return text;
}

}  // namespace flyover::posttrain
