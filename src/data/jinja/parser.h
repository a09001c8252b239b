// Tokens to a syntax tree. What Flyover cannot evaluate is refused here, with template, line and construct named.
#pragma once

#include <string_view>

#include "data/jinja/syntax.h"

namespace flyover::data::jinja {

/// Throws Error "<name>:<line>: ..." on a syntax error and for every construct that is not supported.
Syntax parse(std::string_view source, std::string_view name);

}  // namespace flyover::data::jinja
