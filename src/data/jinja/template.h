// Jinja templates as chat templates use them: parsed once, rendered many times, with the environment of transformers
// (sandboxed, immutable, trim_blocks and lstrip_blocks, loop controls, `generation` blocks, its own tojson).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace flyover::data::jinja {

struct Syntax;

struct RenderOptions {
  /// What strftime_now formats: seconds since 1970, as UTC. Without it a template that asks for the date is an error,
  /// so that no rendering depends on when it runs unless somebody wanted that.
  std::optional<std::int64_t> now = std::nullopt;
  /// Limits on what a template may do: bytes of output, evaluated expressions, bytes of text and list elements handled.
  std::uint64_t maximum_output_bytes = std::uint64_t{64} << 20;
  std::uint64_t maximum_steps = 20'000'000;
  std::uint64_t maximum_work_bytes = std::uint64_t{4} << 30;
};

/// Bytes [begin, end) of the rendered text.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
  friend bool operator==(const Span&, const Span&) = default;
};

struct Rendered {
  std::string text;
  std::vector<Span> generation;  ///< what the `generation` blocks gave, in order
};

class Template {
 public:
  /// Throws Error "<name>:<line>: ..." on a syntax error and for every construct that is not supported.
  static Template parse(std::string source, std::string name);

  /// `variables` is an object. Throws Error "<name>:<line>: ..." for what goes wrong while rendering: a wrong type, an
  /// undefined value, raise_exception, a limit. Thread-safe.
  Rendered render(const base::Json& variables, const RenderOptions& options = {}) const;

  const std::string& source() const { return source_; }
  const std::string& name() const { return name_; }
  bool has_generation_blocks() const;

 private:
  Template(std::string source, std::string name);

  std::string source_;
  std::string name_;
  std::shared_ptr<const Syntax> syntax_;
};

}  // namespace flyover::data::jinja
