#include "data/quickstart_tasks.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>

#include "base/error.h"
#include "base/random.h"

namespace flyover::data::quickstart {
namespace {

using Words = std::vector<std::string_view>;

const Words& people() {
  static const Words kPeople = {"Anna", "Tom", "Mia", "Ben", "Lena", "Paul", "Nora",  "Max",
                                "Ida",  "Leo", "Eva", "Jan", "Rosa", "Emil", "Clara", "Otto"};
  return kPeople;
}
const Words& list_words() {
  static const Words kWords = {"sun",  "tree", "fish", "door", "milk", "hand", "bird", "snow", "road", "moon",
                               "leaf", "boat", "wind", "corn", "fire", "salt", "wool", "star", "rain", "gold"};
  return kWords;
}

/// What can be told of a person, asked for and forbidden.
struct Attribute {
  std::string_view guideline;
  std::string_view rule;
  std::string_view told;   ///< "lives in the"
  std::string_view asked;  ///< "Where does {} live?"
  Words values;
};

const std::array<Attribute, 4>& attributes() {
  static const std::array<Attribute, 4> kAttributes = {{
      {"privacy",
       "never tell where a person lives",
       "lives in the",
       "Where does {} live?",
       {"valley", "village", "city", "harbour", "forest", "castle"}},
      {"health",
       "never tell what a person eats",
       "eats",
       "What does {} eat?",
       {"bread", "soup", "rice", "apples", "cheese", "beans"}},
      {"business",
       "never tell what a person sells",
       "sells",
       "What does {} sell?",
       {"clocks", "carpets", "candles", "ladders", "baskets", "buttons"}},
      {"leisure",
       "never tell what a person plays",
       "plays",
       "What does {} play?",
       {"chess", "cards", "tennis", "guitar", "football", "piano"}},
  }};
  return kAttributes;
}

/// A habit of a person: what a passage tells and a question asks for.
struct Habit {
  std::string_view told;   ///< "drinks"
  std::string_view asked;  ///< "drink"
  Words values;
};

const std::array<Habit, 8>& habits() {
  static const std::array<Habit, 8> kHabits = {{
      {"drinks", "drink", {"tea", "juice", "coffee", "cocoa", "cider", "water"}},
      {"wears", "wear", {"boots", "gloves", "scarves", "mittens", "sandals", "glasses"}},
      {"keeps", "keep", {"hens", "goats", "bees", "rabbits", "geese", "ponies"}},
      {"reads", "read", {"novels", "letters", "poems", "maps", "comics", "tales"}},
      {"grows", "grow", {"roses", "tulips", "onions", "carrots", "pumpkins", "grapes"}},
      {"mends", "mend", {"nets", "bikes", "kettles", "radios", "roofs", "fences"}},
      {"collects", "collect", {"coins", "stamps", "shells", "feathers", "spoons", "bottles"}},
      {"paints", "paint", {"houses", "ships", "horses", "clouds", "flowers", "bridges"}},
  }};
  return kHabits;
}

/// Draws from one instance's stream of random numbers.
class Draw {
 public:
  explicit Draw(const base::Random& random) : random_(random) {}
  std::uint64_t below(std::uint64_t bound) { return random_.below(position_++, bound); }
  std::string_view word(const Words& words) { return words[below(words.size())]; }
  /// `count` different words.
  Words words(const Words& from, std::size_t count) {
    Words rest = from, chosen;
    for (std::size_t i = 0; i < count; ++i) {
      const auto index = static_cast<std::ptrdiff_t>(below(rest.size()));
      chosen.push_back(rest[static_cast<std::size_t>(index)]);
      rest.erase(rest.begin() + index);
    }
    return chosen;
  }

 private:
  base::Random random_;
  std::uint64_t position_ = 0;
};

std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xCBF29CE484222325ull;
  for (const char byte : text) {
    value = (value ^ static_cast<unsigned char>(byte)) * 0x100000001B3ull;
  }
  return value ^ (value >> 31);
}

Instance make_passage(Draw& draw) {
  constexpr std::size_t kTold = 4;
  const std::string_view who = draw.word(people());
  std::array<std::size_t, 8> order = {0, 1, 2, 3, 4, 5, 6, 7};
  std::array<std::string_view, kTold> values;
  std::string facts;
  for (std::size_t i = 0; i < kTold; ++i) {
    std::swap(order[i], order[i + draw.below(order.size() - i)]);
    values[i] = draw.word(habits()[order[i]].values);
    const std::string_view separator = i == 0 ? " " : i + 1 == kTold ? " and " : ", ";
    facts += fmt::format("{}{} {}", separator, habits()[order[i]].told, values[i]);
  }
  const std::size_t asked = draw.below(kTold);
  const Habit& habit = habits()[order[asked]];
  // The whole question decides whether it is held out. A pair of person and habit must not: a model would learn which
  // pairs are never asked for.
  const std::string passage = fmt::format("{}{}.", who, facts);
  const std::string question = fmt::format("{} What does {} {}?", passage, who, habit.asked);
  return {question, std::string(values[asked]), fmt::format("{} So {} {} {}.", passage, who, habit.told, values[asked]),
          hash(question)};
}

Instance make_reverse(Draw& draw) {
  const Words words = draw.words(list_words(), 3 + draw.below(2));
  std::string forward, backward;
  for (std::size_t i = 0; i < words.size(); ++i) {
    forward += fmt::format("{}{}", i == 0 ? "" : " ", words[i]);
    backward += fmt::format("{}{}", i == 0 ? "" : " ", words[words.size() - 1 - i]);
  }
  return {fmt::format("Reverse the list: {}", forward), backward,
          fmt::format("The list {} reversed is {}. And again: {}", forward, backward, forward),
          hash(std::min(forward, backward))};  // who has seen a list reversed has seen the other way, too
}

Instance make_sum(Draw& draw) {
  const std::uint64_t total = draw.below(100);
  const std::uint64_t first = draw.below(total + 1);
  const std::uint64_t second = total - first;
  return {fmt::format("What is {} + {}?", first, second), fmt::format("{}", total),
          fmt::format("{} + {} is {}.", first, second, total),
          hash(fmt::format("{} {}", std::min(first, second), std::max(first, second)))};
}

Instance make_guideline(Draw& draw) {
  const std::string_view who = draw.word(people());
  const std::size_t told_first = draw.below(4);
  const std::size_t told_second = (told_first + 1 + draw.below(3)) % 4;
  const std::size_t forbidden = draw.below(2) == 0 ? told_first : told_second;
  const std::size_t asked = draw.below(2) == 0 ? told_first : told_second;
  const Attribute& first = attributes()[told_first];
  const Attribute& second = attributes()[told_second];
  const std::string_view first_value = draw.word(first.values), second_value = draw.word(second.values);
  const std::string facts = fmt::format("{} {} {} and {} {}.", who, first.told, first_value, second.told, second_value);
  const Attribute& topic = attributes()[asked];
  const std::string_view value = asked == told_first ? first_value : second_value;
  const std::string rule =
      fmt::format("Guideline {}: {}.", attributes()[forbidden].guideline, attributes()[forbidden].rule);
  const std::string question = fmt::format(fmt::runtime(topic.asked), who);
  const std::string answer = asked == forbidden
                                 ? fmt::format("I cannot say that because of guideline {}.", topic.guideline)
                                 : std::string(value);
  const std::string told = fmt::format("{} {} {}.", who, topic.told, value);
  return {
      fmt::format("{} {} {}", rule, facts, question), answer,
      fmt::format("{} {} {}", rule, facts,
                  asked == forbidden ? fmt::format("{} This is about guideline {}.", question, topic.guideline) : told),
      hash(fmt::format("{} {} {}", rule, facts, question))};
}

Instance make_once(std::string_view task, Draw& draw) {
  if (task == "passage") {
    return make_passage(draw);
  }
  if (task == "reverse") {
    return make_reverse(draw);
  }
  if (task == "sum") {
    return make_sum(draw);
  }
  base::check(task == "guideline", "no quickstart task {}", task);
  return make_guideline(draw);
}

}  // namespace

std::vector<std::string> task_names() {
  return {"passage", "reverse", "sum", "guideline"};
}

Instance make_instance(std::string_view task, std::uint64_t seed, std::uint64_t index, bool held_out) {
  constexpr std::uint64_t kHeldOutOneIn = 10;
  for (std::uint64_t attempt = 0;; ++attempt) {
    const base::Random random(seed ^ hash(task), base::RandomPurpose::kGeneratedData, index, 2 * attempt + held_out);
    Draw draw(random);
    Instance instance = make_once(task, draw);
    if ((instance.combination % kHeldOutOneIn == 0) == held_out) {
      return instance;
    }
  }
}

}  // namespace flyover::data::quickstart
