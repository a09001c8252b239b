#include "data/deepseek_v4/tool_results.h"

#include <algorithm>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::data::deepseek_v4 {
namespace {

using base::Json;

std::vector<std::optional<std::string>> ids_of_calls(const Message& caller, std::string_view where) {
  std::vector<std::optional<std::string>> ids;
  if (caller.tool_calls != nullptr) {
    for (const Json& call : *caller.tool_calls) {
      ids.push_back(base::find_string(call, "id", where));
    }
  }
  return ids;
}

}  // namespace

std::vector<std::size_t> order_of_results(const Message& caller, std::span<const Message> results,
                                          std::string_view where) {
  const auto ids = ids_of_calls(caller, where);
  base::require(!ids.empty(), "{}: no tool call comes before this result", where);
  base::require(ids.size() == results.size(), "{}: {} results for {} tool calls: each call needs one", where,
                results.size(), ids.size());
  std::vector<std::size_t> order(results.size());
  const bool by_position = std::none_of(ids.begin(), ids.end(), [](const auto& id) { return id.has_value(); }) ||
                           std::none_of(results.begin(), results.end(),
                                        [](const Message& result) { return result.tool_call_id.has_value(); });
  std::vector<bool> answered(ids.size(), false);
  for (std::size_t i = 0; i < results.size(); ++i) {
    std::size_t call = i;
    if (!by_position) {
      base::require(results[i].tool_call_id.has_value(),
                    "{}: result {} has no \"tool_call_id\", but others have: it is not clear what it answers", where,
                    i + 1);
      for (call = 0; call < ids.size() && (answered[call] || ids[call] != results[i].tool_call_id); ++call) {
      }
      base::require(call < ids.size(), "{}: result {} answers the call \"{}\", which {}", where, i + 1,
                    *results[i].tool_call_id,
                    std::find(ids.begin(), ids.end(), results[i].tool_call_id) == ids.end() ? "is not there"
                                                                                            : "has a result already");
    }
    answered[call] = true;
    order[call] = i;
  }
  return order;
}

}  // namespace flyover::data::deepseek_v4
