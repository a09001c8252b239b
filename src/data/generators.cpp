#include "data/generators.h"

#include <array>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "data/quickstart_tasks.h"

namespace flyover::data {
namespace {

constexpr std::string_view kText = "quickstart_text";
constexpr std::string_view kInstructions = "quickstart_instructions";
constexpr std::uint64_t kSentencesPerText = 4;

/// One of the tasks, more often where more examples are needed: facts of a passage twice as often as lists and
/// guidelines, sums, which are the shortest, four times.
std::string_view pick_task(const base::Random& random, std::uint64_t position) {
  static constexpr std::array<std::string_view, 8> kTasks = {"passage", "passage", "reverse", "guideline",
                                                             "sum",     "sum",     "sum",     "sum"};
  return kTasks[random.below(position, kTasks.size())];
}

/// Some sentences of the little world, in plain prose.
std::string make_text(std::uint64_t seed, std::uint64_t index) {
  const base::Random random(seed, base::RandomPurpose::kGeneratedData, index);
  std::string text;
  for (std::uint64_t sentence = 0; sentence < kSentencesPerText; ++sentence) {
    const auto instance =
        quickstart::make_instance(pick_task(random, sentence), seed, index * kSentencesPerText + sentence, false);
    text += (sentence == 0 ? "" : "\n") + instance.as_text;
  }
  return text;
}

Conversation ask(const std::string& question) {
  Conversation conversation;
  conversation.messages.push_back(text_message("user", question));
  return conversation;
}

}  // namespace

std::vector<std::string> generator_names() {
  return {std::string(kText), std::string(kInstructions)};
}

Document generate_document(std::string_view name, std::uint64_t seed, std::uint64_t index) {
  if (name == kText) {
    return make_text(seed, index);
  }
  if (name == kInstructions) {
    const base::Random random(seed, base::RandomPurpose::kGeneratedData, index);
    // Another seed than the text's, so that instructions are not the text's sentences again.
    const auto instance = quickstart::make_instance(pick_task(random, 0), seed + 1, index, false);
    Conversation conversation = ask(instance.question);
    conversation.messages.push_back(text_message("assistant", instance.answer));
    return conversation;
  }
  const std::vector<std::string> names = generator_names();
  base::fail("there is no generator \"{}\"{}; there are: {}, {}", name, base::suggestion(name, names), names[0],
             names[1]);
}

std::vector<std::string> task_names(std::string_view generator) {
  return generator == kInstructions ? quickstart::task_names() : std::vector<std::string>();
}

Question generate_question(std::string_view generator, std::string_view task, std::uint64_t seed, std::uint64_t index) {
  base::require(generator == kInstructions, "the generator \"{}\" asks no questions", generator);
  const auto instance = quickstart::make_instance(task, seed, index, true);
  return {ask(instance.question), instance.answer};
}

}  // namespace flyover::data
