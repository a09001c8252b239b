#include "base/host_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <unistd.h>

#include "base/error.h"

namespace flyover::base {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

/// The names of a control group's files.
struct GroupFiles {
  const char* limit;
  const char* used;
  const char* droppable;  ///< key of memory.stat: file pages that were not used of late
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file"};

std::uint64_t difference(std::uint64_t a, std::uint64_t b) {
  return a > b ? a - b : 0;
}

std::optional<std::uint64_t> parse(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

/// The first word of a file as a number; nothing where there is none ("max", or no such file).
std::optional<std::uint64_t> first_number(const fs::path& path) {
  std::string word;
  std::ifstream(path) >> word;
  return parse(word);
}

/// The number after `name` in a file of names and numbers.
std::optional<std::uint64_t> named_number(const fs::path& path, std::string_view name) {
  std::ifstream file(path);
  std::string word;
  std::uint64_t value = 0;
  for (std::string rest; file >> word >> value; std::getline(file, rest)) {
    if (word == name) {
      return value;
    }
  }
  return std::nullopt;
}

/// What the group in directory `top / group` and the groups around it, up to `top`, leave. A container may see its own
/// group as `top` and still know it by the path outside: directories that are not there have no limit.
std::uint64_t left_by_groups(const fs::path& top, const fs::path& group, const GroupFiles& files) {
  std::uint64_t left = kUnlimited;
  for (fs::path path = group.relative_path();; path = path.parent_path()) {
    const fs::path directory = top / path;
    if (const auto limit = first_number(directory / files.limit)) {
      const std::uint64_t used = difference(first_number(directory / files.used).value_or(0),
                                            named_number(directory / "memory.stat", files.droppable).value_or(0));
      left = std::min(left, difference(*limit, used));
    }
    if (path.empty()) {
      return left;
    }
  }
}

std::uint64_t left_by_groups(const fs::path& root) {
  const fs::path groups = root / "sys/fs/cgroup";
  std::uint64_t left = kUnlimited;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "0::/a/b", or "4:cpu,memory:/a/b"
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path group = line.substr(second + 1);
    if (controllers == ",,") {
      left = std::min(
          {left, left_by_groups(groups, group, kVersion2), left_by_groups(groups / "unified", group, kVersion2)});
    } else if (controllers.find(",memory,") != std::string::npos) {
      left = std::min(left, left_by_groups(groups / "memory", group, kVersion1));
    }
  }
  return left;
}

std::uint64_t left_by_address_space(const fs::path& root) {
  constexpr std::string_view kName = "Max address space";
  std::ifstream file(root / "proc/self/limits");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kName)) {
      const std::size_t begin = std::min(line.find_first_not_of(' ', kName.size()), line.size());
      const auto limit = parse(std::string_view(line).substr(begin, line.find(' ', begin) - begin));
      const auto pages = first_number(root / "proc/self/statm");
      const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
      return limit ? difference(*limit, pages.value_or(0) * page) : kUnlimited;
    }
  }
  return kUnlimited;
}

}  // namespace

HostMemory host_memory(const fs::path& root) {
  const fs::path machine = root / "proc/meminfo";
  const auto total = named_number(machine, "MemTotal:"), available = named_number(machine, "MemAvailable:");
  require(total.has_value() && available.has_value(), "{} does not tell how much memory the machine has",
          machine.string());
  return {std::min({*available * 1024, left_by_groups(root), left_by_address_space(root)}), *total * 1024};
}

}  // namespace flyover::base
