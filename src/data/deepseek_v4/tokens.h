// The control tokens of DeepSeek-V4's prompts: protocol strings of the published tokenizer, resolved by text.
#pragma once

#include <array>
#include <string_view>

namespace flyover::data::deepseek_v4 {

inline constexpr std::string_view kBeginOfText = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEndOfTurn = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kBeginOfReasoning = "<think>";
inline constexpr std::string_view kEndOfReasoning = "</think>";
inline constexpr std::string_view kMarkup = "｜DSML｜";  ///< in every tag of a tool call
inline constexpr std::string_view kLatestReminder = "<｜latest_reminder｜>";

/// A short question to the model about the conversation so far, and the token that asks it.
struct Task {
  std::string_view name;
  std::string_view token;
};
inline constexpr std::array<Task, 6> kTasks = {{{"action", "<｜action｜>"},
                                                {"query", "<｜query｜>"},
                                                {"authority", "<｜authority｜>"},
                                                {"domain", "<｜domain｜>"},
                                                {"title", "<｜title｜>"},
                                                {"read_url", "<｜read_url｜>"}}};

/// Every conversation needs these; the others only those that use them.
inline constexpr std::array<std::string_view, 6> kCoreTokens = {kBeginOfText, kEndOfTurn,        kUser,
                                                                kAssistant,   kBeginOfReasoning, kEndOfReasoning};
/// All of the above.
inline constexpr std::array<std::string_view, 14> kAllTokens = {
    kBeginOfText,    kEndOfTurn,      kUser,           kAssistant,      kBeginOfReasoning,
    kEndOfReasoning, kMarkup,         kLatestReminder, kTasks[0].token, kTasks[1].token,
    kTasks[2].token, kTasks[3].token, kTasks[4].token, kTasks[5].token};

}  // namespace flyover::data::deepseek_v4
