#include "data/jinja/template.h"

#include "base/error.h"
#include "data/jinja/interpreter.h"
#include "data/jinja/parser.h"

namespace flyover::data::jinja {

Template::Template(std::string source, std::string name)
    : source_(std::move(source)),
      name_(std::move(name)),
      syntax_(std::make_shared<const Syntax>(jinja::parse(source_, name_))) {}

Template Template::parse(std::string source, std::string name) {
  return {std::move(source), std::move(name)};
}

Rendered Template::render(const base::Json& variables, const RenderOptions& options) const {
  Interpreter interpreter(*syntax_, options);
  try {
    return interpreter.run(variables);
  } catch (const base::Error& error) {
    base::fail("{}:{}: {}", name_, interpreter.line(), error.what());
  }
}

bool Template::has_generation_blocks() const {
  return syntax_->has_generation;
}

}  // namespace flyover::data::jinja
