// The processor is asked for every feature that some kernel is compiled for.
#include "devices/cpu/instruction_set.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwy/highway.h>

namespace flyover::devices::cpu {
namespace {

std::set<std::string, std::less<>> features_of(InstructionSet set) {
  const auto names = required_features(set);
  return {names.begin(), names.end()};
}

/// The words of "sse2,avx2,fma" that `features` lacks.
std::set<std::string> lacking(const std::string& attributes, const std::set<std::string, std::less<>>& features) {
  std::set<std::string> result;
  std::istringstream words(attributes);
  for (std::string word; std::getline(words, word, ',');) {
    if (!features.contains(word)) {
      result.insert(word);
    }
  }
  return result;
}

TEST(InstructionSet, AsksForAllThatTheKernelsAreCompiledFor) {
  const std::set<std::string> none;
  EXPECT_EQ(lacking(HWY_TARGET_STR_AVX2, features_of(InstructionSet::kAvx2)), none);
  EXPECT_EQ(lacking(HWY_TARGET_STR_AVX3, features_of(InstructionSet::kAvx512)), none);
  EXPECT_EQ(lacking("bmi2,fma,f16c", features_of(InstructionSet::kAvx2)), none);
  EXPECT_EQ(lacking("avx512cd,bmi2,fma,f16c", features_of(InstructionSet::kAvx512)), none);
  EXPECT_EQ(lacking("avx512bf16,avx512vl,avx512dq,avx512bw,avx512cd", features_of(InstructionSet::kAvx512Bf16)), none);
  EXPECT_FALSE(features_of(InstructionSet::kAvx512).contains("avx512bf16"));
  EXPECT_FALSE(features_of(InstructionSet::kAvx2).contains("avx512f"));
}

TEST(InstructionSet, AvailableOnesAreThoseThatTheKernelOfTheSystemReports) {
  std::ifstream file("/proc/cpuinfo");
  std::set<std::string, std::less<>> flags;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("flags")) {
      std::istringstream words(line.substr(line.find(':') + 1));
      for (std::string word; words >> word;) {
        flags.insert(word);
      }
      break;
    }
  }
  if (flags.empty()) {
    GTEST_SKIP() << "/proc/cpuinfo lists no flags";
  }
  const auto in_system = [&](std::string name) {
    if (name == "sse4.1" || name == "sse4.2") {
      name[4] = '_';
    }
    return flags.contains(name == "pclmul"       ? "pclmulqdq"
                          : name == "bmi"        ? "bmi1"
                          : name == "avx512bf16" ? "avx512_bf16"
                                                 : name);
  };
  std::vector<InstructionSet> expected;
  for (const InstructionSet set : {InstructionSet::kAvx2, InstructionSet::kAvx512, InstructionSet::kAvx512Bf16}) {
    bool all = true;
    for (const std::string_view name : required_features(set)) {
      all = all && in_system(std::string(name));
    }
    const char* const forced = std::getenv("FLYOVER_INSTRUCTION_SET");
    if (all && (forced == nullptr || *forced == '\0' || name_of(set) == forced)) {
      expected.push_back(set);
    }
  }
  EXPECT_THAT(available_instruction_sets(), testing::UnorderedElementsAreArray(expected));
}

TEST(InstructionSet, TheFastestIsLast) {
  const std::vector<InstructionSet> sets = available_instruction_sets();
  std::ifstream file("/proc/cpuinfo");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.empty()) {
    GTEST_SKIP() << "no /proc/cpuinfo";
  }
  const bool intel = text.find("GenuineIntel") != std::string::npos;
  EXPECT_EQ(pairs_are_slow(), intel);
  if (sets.size() == 3) {
    EXPECT_EQ(sets.back(), intel ? InstructionSet::kAvx512 : InstructionSet::kAvx512Bf16);
  }
  EXPECT_EQ(choose_instruction_set(""), sets.back());
}

}  // namespace
}  // namespace flyover::devices::cpu
