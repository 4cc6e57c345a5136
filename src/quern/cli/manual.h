// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "quern/cli/command.h"

namespace quern {

/// Text as roff source: backslashes, dashes and control characters at the start of a line made harmless.
std::string roff(std::string_view text);

/// quern(1): all commands, the common options, files, environment, exit codes. man(7) macros.
std::string program_manual(std::span<const Command* const> commands, std::string_view version);
/// quern-COMMAND(1)
std::string command_manual(const Command& command, std::string_view version);

/// The same tables as Markdown: docs/cli.md.
std::string markdown_manual(std::span<const Command* const> commands);

}  // namespace quern
