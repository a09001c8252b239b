// What the generators train on and what they ask are never the same.
#include "data/generators.h"

#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "data/message.h"

namespace flyover::data {
namespace {

constexpr std::uint64_t kDocuments = 30'000;  // of each generator, as many as the quickstart trains on
constexpr std::uint64_t kQuestions = 500;

/// The lines of all the text that the quickstart trains on.
std::set<std::string> trained_lines(std::uint64_t seed) {
  std::set<std::string> lines;
  for (std::uint64_t i = 0; i < kDocuments; ++i) {
    std::istringstream text(std::get<std::string>(generate_document("quickstart_text", seed, i)));
    for (std::string line; std::getline(text, line);) {
      lines.insert(line);
    }
  }
  return lines;
}

std::set<std::string> trained_questions(std::uint64_t seed) {
  std::set<std::string> questions;
  for (std::uint64_t i = 0; i < kDocuments; ++i) {
    const auto conversation = std::get<Conversation>(generate_document("quickstart_instructions", seed, i));
    questions.insert(content_text(conversation.messages.front()).value());
  }
  return questions;
}

std::vector<Question> questions_of(std::string_view task, std::uint64_t seed) {
  std::vector<Question> questions;
  for (std::uint64_t i = 0; i < kQuestions; ++i) {
    questions.push_back(generate_question("quickstart_instructions", task, seed, i));
  }
  return questions;
}

std::string text_of(const Question& question) {
  return content_text(question.prompt.messages.back()).value();
}

/// What is left of a text between two parts of it.
std::string between(const std::string& text, const std::string& left, const std::string& right) {
  const std::size_t begin = text.find(left) + left.size();
  return text.substr(begin, text.find(right, begin) - begin);
}

TEST(Generators, NoQuestionIsATrainedOne) {
  for (const std::uint64_t seed : {1u, 2u}) {
    const std::set<std::string> trained = trained_questions(seed);
    ASSERT_GT(trained.size(), 5000u);
    for (const std::string& task : task_names("quickstart_instructions")) {
      for (const std::uint64_t other : {std::uint64_t{3}, seed, seed + 1}) {
        for (const Question& question : questions_of(task, other)) {
          EXPECT_FALSE(trained.contains(text_of(question))) << text_of(question);
        }
      }
    }
  }
}

TEST(Generators, NoListIsReversedInTrainingInEitherDirection) {
  std::set<std::string> trained;
  for (const std::string& line : trained_lines(1)) {
    if (line.starts_with("The list ")) {
      trained.insert(between(line, "The list ", " reversed"));
      trained.insert(between(line, "reversed is ", "."));
    }
  }
  ASSERT_GT(trained.size(), 5000u);
  for (const std::string& question : trained_questions(1)) {
    if (question.starts_with("Reverse")) {
      trained.insert(between(question, ": ", "\n"));
    }
  }
  for (const Question& question : questions_of("reverse", 3)) {
    EXPECT_FALSE(trained.contains(between(text_of(question), ": ", "\n"))) << text_of(question);
    EXPECT_FALSE(trained.contains(question.answer)) << question.answer;
  }
}

TEST(Generators, NoSumIsTrainedOnWithItsAddendsExchanged) {
  std::set<std::string> trained;
  for (const std::string& line : trained_lines(1)) {
    if (line.find(" + ") != std::string::npos) {
      trained.insert(line.substr(0, line.find(" is ")));
    }
  }
  ASSERT_GT(trained.size(), 1000u);
  for (const std::string& question : trained_questions(1)) {
    if (question.starts_with("What is ")) {
      trained.insert(between(question, "What is ", "?"));
    }
  }
  for (const Question& question : questions_of("sum", 3)) {
    const std::string first = between(text_of(question), "What is ", " +"),
                      second = between(text_of(question), "+ ", "?");
    EXPECT_FALSE(trained.contains(first + " + " + second)) << text_of(question);
    EXPECT_FALSE(trained.contains(second + " + " + first)) << text_of(question);
  }
}

TEST(Generators, NoTextAnswersAQuestionOfItsFacts) {
  const std::set<std::string> lines = trained_lines(1);
  for (const Question& question : questions_of("passage", 3)) {
    const std::string facts = text_of(question).substr(0, text_of(question).find(" What does")) + " So ";
    for (auto line = lines.lower_bound(facts); line != lines.end() && line->starts_with(facts); ++line) {
      EXPECT_FALSE(line->ends_with(" " + question.answer + ".")) << *line;
    }
  }
  for (const Question& question : questions_of("guideline", 3)) {
    const auto line = lines.lower_bound(text_of(question));
    EXPECT_FALSE(line != lines.end() && line->starts_with(text_of(question))) << *line;
  }
}

}  // namespace
}  // namespace flyover::data
