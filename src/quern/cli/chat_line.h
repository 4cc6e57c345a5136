// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "quern/base/result.h"

namespace quern {

/// A command inside a chat.
struct ChatCommand {
  std::string_view name;      ///< "/save"
  std::string_view argument;  ///< "FILE"; empty: none
  std::string_view help;
  enum class Kind : uint8_t { help, clear, save, load, set, system, quit } kind;
};
std::span<const ChatCommand> chat_commands();

/// A line that a user typed: a message, or a command with the rest of the line.
struct ChatLine {
  const ChatCommand* command = nullptr;  ///< null: a message
  std::string rest;                      ///< the message, or the command's argument without blanks around it
};

/// A line that begins with '/' and a letter is a command; "//" at the start stands for one '/' of a message. An unknown
/// command is an error with the nearest name; one that lacks its argument too.
Result<ChatLine> parse_chat_line(std::string_view line);

/// The text of /help.
std::string chat_help();

/// A path as people write it: a leading "~/" is the home folder, as in a shell, where the environment has one (HOME).
std::string expand_home(std::string_view path);

}  // namespace quern
