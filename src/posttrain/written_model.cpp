#include "posttrain/written_model.h"

#include <optional>
#include <string>

#include "base/error.h"
#include "checkpoint/weight_matching.h"

namespace flyover::posttrain {
namespace {

/// Question, answer, question; nothing where the template refuses such a conversation.
std::optional<std::string> rendered(data::ChatTemplate chat_template) {
  chat_template.set_now(0);
  chat_template.set_variables(nullptr);
  data::Conversation conversation;
  for (const auto& [role, text] : {std::pair("user", "a"), std::pair("assistant", "b"), std::pair("user", "c")}) {
    conversation.messages.push_back(data::text_message(role, text));
  }
  try {
    return chat_template.render(conversation, true);
  } catch (const base::Error&) {
    return std::nullopt;
  }
}

}  // namespace

void check_written_model(const StartingModel& start, const std::filesystem::path& directory) {
  const StartingModel written = open_model(directory, {});
  checkpoint::match_tensors(*written.directory, *make_model(written));  // their bytes are compared by who wrote them
  // Equal documents give equal tokens for every text.
  base::require(written.tokenizer_json == start.tokenizer_json,
                "tokenizer.json is not the tokenizer that was trained with");
  if (!start.chat_template) {
    return;
  }
  base::require(written.chat_template.has_value() && written.chat_template->source() == start.chat_template->source() &&
                    rendered(*written.chat_template) == rendered(*start.chat_template),
                "the chat template (chat_template.jinja, tokenizer_config.json) does not write the text that was "
                "trained with");
  base::require(written.stop_tokens == start.stop_tokens,
                "generation_config.json does not end generation with the tokens that were trained with");
}

}  // namespace flyover::posttrain
