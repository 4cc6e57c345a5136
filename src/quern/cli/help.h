// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/cli/command.h"

namespace quern {

/// Breaks a text at spaces into lines of at most `width` columns (a longer word stands alone).
std::vector<std::string> wrap(std::string_view text, int width);

/// "quern run [OPTIONS] MODEL [PROMPT]"
std::string synopsis(const Command& command);
/// "--max-tokens N"
std::string option_heading(const OptionSpec& option);
/// What help and manual say about an option: its help, range, choices, default, repetition.
std::string option_description(const OptionSpec& option);

std::string program_help(std::span<const Command* const> commands, int width);
std::string command_help(const Command& command, int width);

}  // namespace quern
