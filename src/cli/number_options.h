// Numbers on the command line: read and refused as a recipe's are.
#pragma once

#include <cstdint>
#include <string>

#include "recipe/values.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace flyover::cli {

/// Options whose text must be a number as recipes write them ("0.5", "1e-3"; not "nan", "0x10"), within the range also
/// after rounding to `value`'s type. Otherwise the program says what was expected and ends with kWrongInput.
CLI::Option* add_number(CLI::App& command, const std::string& name, int& value, const recipe::Range& range,
                        const std::string& help);
CLI::Option* add_number(CLI::App& command, const std::string& name, std::int64_t& value, const recipe::Range& range,
                        const std::string& help);
CLI::Option* add_number(CLI::App& command, const std::string& name, std::uint64_t& value, const recipe::Range& range,
                        const std::string& help);
CLI::Option* add_number(CLI::App& command, const std::string& name, float& value, const recipe::Range& range,
                        const std::string& help);

}  // namespace flyover::cli
