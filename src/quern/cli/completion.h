// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "quern/cli/command.h"

namespace quern {

// Scripts that complete commands, options and the values of choices; paths elsewhere.
std::string bash_completion(std::span<const Command* const> commands);
std::string zsh_completion(std::span<const Command* const> commands);
std::string fish_completion(std::span<const Command* const> commands);

}  // namespace quern
