#include "tokenizer/post_processor.h"

#include "base/error.h"

namespace flyover::tokenizer {
namespace {

std::vector<std::int32_t> read_ids(const Node& node) {
  std::vector<std::int32_t> ids;
  for (const Node& element : node.elements()) {
    const std::int64_t id = element.as_integer();
    base::require(id >= 0 && id <= INT32_MAX, "{}: {} is not a token id", element.where(), id);
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

PostProcessor read_template(const Node& node) {
  PostProcessor result;
  bool text_seen = false;
  for (const Node& piece : node.at("single").elements()) {
    if (const std::optional<Node> sequence = piece.find("Sequence")) {
      const std::string name = sequence->at("id").as_string();
      base::require(name == "A" && !text_seen, "{}: the template for one text must hold the text A once, found {}",
                    sequence->where(), name);
      text_seen = true;
      continue;
    }
    const std::string name = piece.at("SpecialToken").at("id").as_string();
    const std::vector<std::int32_t> ids = read_ids(node.at("special_tokens").at(name).at("ids"));
    std::vector<std::int32_t>& side = text_seen ? result.after : result.before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  base::require(text_seen, "{}.single: the template does not hold the text A", node.where());
  return result;
}

void read_into(const Node& node, int nesting, PostProcessor& result) {
  base::require(nesting < kMaximumNesting, "{}: more than {} nested post-processors", node.where(), kMaximumNesting);
  const std::string type = node.at("type").as_string();
  if (type == "Sequence") {
    for (const Node& element : node.at("processors").elements()) {
      read_into(element, nesting + 1, result);
    }
  } else if (type == "TemplateProcessing") {
    base::require(result.before.empty() && result.after.empty(), "{}: a second TemplateProcessing is not supported",
                  node.where());
    result = read_template(node);
  } else if (type != "ByteLevel") {
    node.refuse("post-processor", type, "Sequence, TemplateProcessing, ByteLevel");
  }
}

}  // namespace

PostProcessor read_post_processor(const Node& node) {
  PostProcessor result;
  read_into(node, 0, result);
  return result;
}

}  // namespace flyover::tokenizer
