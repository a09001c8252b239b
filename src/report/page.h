// The frame of the page: style and script, light and dark.
#pragma once

#include <string>

namespace flyover::report {

/// A whole HTML document of a title and a body, both HTML already.
std::string make_page(const std::string& title, const std::string& body);

}  // namespace flyover::report
