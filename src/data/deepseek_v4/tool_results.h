// Which result of a tool answers which call.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "data/message.h"

namespace flyover::data::deepseek_v4 {

/// The numbers of `results` (messages with the role "tool") in the order of the calls of `caller`: by `tool_call_id`
/// where the calls have ids, else as given. Throws Error naming `where` unless each call has one result.
std::vector<std::size_t> order_of_results(const Message& caller, std::span<const Message> results,
                                          std::string_view where);

}  // namespace flyover::data::deepseek_v4
