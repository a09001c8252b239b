// Which bytes of a rendered conversation the assistant says. How to render is a function that the caller gives.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/chat_template.h"

namespace flyover::data {

/// Renders the first `count` messages, with or without the prompt for the assistant's next turn.
using RenderMessages = std::function<jinja::Rendered(std::size_t count, bool add_generation_prompt)>;

struct SpanRequest {
  std::string_view template_name;
  bool has_generation_blocks = false;
  std::span<const std::string> end_of_turn;
  bool last_turn_only = false;
};

/// See ChatTemplate::render_for_training.
RenderedConversation find_training_spans(std::span<const Message> messages, const SpanRequest& request,
                                         const RenderMessages& render);

}  // namespace flyover::data
