// The little world of the quickstart: people, things and rules, told as plain text and asked as questions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flyover::data::quickstart {

/// One instance of a task: what is asked, and the one right answer.
struct Instance {
  std::string question;
  std::string answer;
  std::string as_text;        ///< the same knowledge as a sentence of plain text
  std::uint64_t combination;  ///< names what has to be combined; decides whether it is held out
};

/// "passage": find a fact among others. "reverse": a short list backwards. "sum": sums below 100. "guideline": refuse
/// what a stated guideline forbids and name it, answer its harmless twin.
std::vector<std::string> task_names();

/// Instance number `index` of a task, held out or not: the two sets of combinations do not meet.
Instance make_instance(std::string_view task, std::uint64_t seed, std::uint64_t index, bool held_out);

}  // namespace flyover::data::quickstart
