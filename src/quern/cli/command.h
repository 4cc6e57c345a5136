// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace quern {

class Arguments;  // cli/arguments.h: parsed and range-checked

enum class OptionType { flag, text, path, integer, number, choice, size };

/// One option of a command. Help, man page, completion and parsing all come from these tables.
struct OptionSpec {
  std::string_view name;     ///< "--max-tokens"
  std::string_view metavar;  ///< "N"; empty for flags
  std::string_view help;
  OptionType type = OptionType::flag;
  double min = 0, max = 0;  ///< integer, number: the range, where min < max
  std::span<const std::string_view> choices = {};
  std::string_view default_text = {};  ///< shown in help; what applies when it is not given is the command's
  bool repeatable = false;
};

struct PositionalSpec {
  std::string_view name;  ///< "MODEL"
  std::string_view help;
  bool required = true;
  bool repeatable = false;
};

struct Example {
  std::string_view command, says;
};

/// A command: one per file `command/<name>.command.cpp`, constant `command_<name>`.
struct Command {
  std::string_view name, summary, description;
  std::span<const PositionalSpec> positionals;
  std::span<const OptionSpec> options;  ///< beside the common ones
  std::span<const Example> examples;
  /// Exit code: 0 done, 1 failed, 2 usage, 130 interrupted. Errors are printed by it, one line.
  int (*run)(const Arguments& arguments);
};

extern const Command* const command_table[];
extern const int command_table_size;

}  // namespace quern
