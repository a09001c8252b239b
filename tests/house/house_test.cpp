// The rules of the house that a program can see: includes point downward, files stay short.
#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/files.h"
#include "support/shared_data.h"

namespace flyover {
namespace {

namespace fs = std::filesystem;

/// The floors, lowest first; folders of one line may not use each other except as listed in kNeighbours.
const std::vector<std::vector<std::string>> kFloors = {{"base"},       {"kernels"},  {"devices"},
                                                       {"tensor"},     {"autograd"}, {"ops"},
                                                       {"parallel"},   {"nn"},       {"models"},
                                                       {"checkpoint"}, {"optim"},    {"data", "tokenizer"},
                                                       {"recipe"},     {"rollout"},  {"trainer", "evaluate"},
                                                       {"posttrain"},  {"report"},   {"cli"}};

/// Within a floor: who may use whom.
const std::map<std::string, std::set<std::string>> kNeighbours = {{"data", {"tokenizer"}}};

int floor_of(const std::string& folder) {
  for (std::size_t i = 0; i < kFloors.size(); ++i) {
    if (std::find(kFloors[i].begin(), kFloors[i].end(), folder) != kFloors[i].end()) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

/// Files below a folder with one of these endings.
std::vector<fs::path> files_below(const fs::path& root, const std::set<std::string>& endings) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_regular_file() && endings.contains(entry.path().extension().string())) {
      files.push_back(entry.path());
    }
  }
  return files;
}

std::vector<fs::path> sources_below(const fs::path& root) {
  return files_below(root, {".h", ".cpp"});
}

/// Everything that is written to be read as a program: sources, scripts and what builds them.
std::vector<fs::path> programs_of(const fs::path& repository) {
  std::vector<fs::path> files = {repository / "CMakeLists.txt"};
  for (const char* folder : {"src", "tests", "bench", "scripts", "cmake"}) {
    for (const fs::path& path : files_below(repository / folder, {".h", ".cpp", ".py", ".sh", ".cmake", ".txt"})) {
      if (path.extension() != ".txt" || path.filename() == "CMakeLists.txt") {
        files.push_back(path);
      }
    }
  }
  return files;
}

/// "a/b.h" of every #include "a/b.h" in a file.
std::vector<std::string> own_includes(const fs::path& path) {
  std::vector<std::string> result;
  std::ifstream file(path);
  constexpr std::string_view kPrefix = "#include \"";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kPrefix)) {
      result.push_back(line.substr(kPrefix.size(), line.rfind('"') - kPrefix.size()));
    }
  }
  return result;
}

TEST(House, IncludesPointDownward) {
  const fs::path root = tests::repository() / "src";
  std::size_t seen = 0;
  for (const fs::path& path : sources_below(root)) {
    const std::string folder = fs::relative(path, root).begin()->string();
    ASSERT_GE(floor_of(folder), 0) << "the folder " << folder << " has no floor in this test";
    for (const std::string& include : own_includes(path)) {
      const std::string target = include.substr(0, include.find('/'));
      if (floor_of(target) < 0 || target == folder) {
        continue;  // not one of ours, or its own folder
      }
      ++seen;
      const auto neighbours = kNeighbours.find(folder);
      const bool allowed = floor_of(target) < floor_of(folder) ||
                           (neighbours != kNeighbours.end() && neighbours->second.contains(target));
      EXPECT_TRUE(allowed) << fs::relative(path, root).string() << " includes " << include << ", which is above it";
    }
  }
  EXPECT_GT(seen, 100u);
}

TEST(House, OnlyTheDevicesTouchTheInsideOfDevices) {
  // Above the devices, code sees the interface and the factories, never kernels' code.
  const fs::path root = tests::repository() / "src";
  for (const fs::path& path : sources_below(root)) {
    const std::string folder = fs::relative(path, root).begin()->string();
    if (floor_of(folder) <= floor_of("devices")) {
      continue;
    }
    for (const std::string& include : own_includes(path)) {
      if (include.starts_with("devices/")) {
        const std::string name = fs::path(include).filename().string();
        EXPECT_TRUE(name == "device.h" || name == "kernel_table.h" || name == "families.h" ||
                    name == "instruction_set.h")
            << fs::relative(path, root).string() << " includes " << include;
      }
    }
  }
}

std::size_t lines_of(const fs::path& path) {
  const std::string text = base::read_file(path);
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST(House, FilesAreShort) {
  constexpr std::size_t kMostLines = 800;
  std::map<std::string, std::size_t> seen;
  for (const fs::path& path : programs_of(tests::repository())) {
    EXPECT_LE(lines_of(path), kMostLines) << path.string();
    ++seen[path.extension().string()];
  }
  for (const char* ending : {".h", ".cpp", ".py", ".sh", ".cmake", ".txt"}) {
    EXPECT_GT(seen[ending], 0u) << "no file ends in " << ending;
  }
}

TEST(House, ModelsReadLikeTheirEquations) {
  constexpr std::size_t kMostLines = 400;  // header and source together
  std::size_t families = 0;
  for (const auto& entry : fs::directory_iterator(tests::repository() / "src" / "models")) {
    if (entry.is_directory()) {
      EXPECT_LT(lines_of(entry.path() / "model.h") + lines_of(entry.path() / "model.cpp"), kMostLines)
          << entry.path().string();
      ++families;
    }
  }
  EXPECT_GE(families, 4u);
}

}  // namespace
}  // namespace flyover
