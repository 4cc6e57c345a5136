// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/chat_line.h"

#include <cstdlib>
#include <vector>

#include "quern/cli/nearest.h"

namespace quern {
namespace {

using Kind = ChatCommand::Kind;
constexpr ChatCommand kCommands[] = {
    {"/help", "", "Show this.", Kind::help},
    {"/clear", "", "Forget the conversation; the system text stays.", Kind::clear},
    {"/save", "FILE", "Write the conversation to a JSON file.", Kind::save},
    {"/load", "FILE", "Go on with a conversation that was saved.", Kind::load},
    {"/set", "NAME VALUE",
     "Change a setting: temp, top-k, top-p, min-p, typical, repeat-penalty, presence-penalty, frequency-penalty, "
     "max-tokens, seed.",
     Kind::set},
    {"/system", "TEXT", "Set the system text; without TEXT, remove it.", Kind::system},
    {"/quit", "", "End the chat.", Kind::quit},
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

}  // namespace

std::span<const ChatCommand> chat_commands() { return kCommands; }

Result<ChatLine> parse_chat_line(std::string_view line) {
  if (line.starts_with("//")) return ChatLine{nullptr, std::string(line.substr(1))};
  if (line.size() < 2 || line[0] != '/' || !((line[1] | 0x20) >= 'a' && (line[1] | 0x20) <= 'z'))
    return ChatLine{nullptr, std::string(line)};
  const std::string_view name = line.substr(0, line.find_first_of(" \t\n"));
  const std::string_view rest = trim(line.substr(name.size()));
  std::vector<std::string_view> names;
  for (const ChatCommand& command : kCommands) {
    names.push_back(command.name);
    if (command.name != name) continue;
    if (rest.empty() && !command.argument.empty() && command.kind != Kind::system)
      return make_error(ErrorCode::invalid_argument, "{}: expected {}, found nothing", name, command.argument);
    if (!rest.empty() && command.argument.empty())
      return make_error(ErrorCode::invalid_argument, "{}: expected nothing after it, found '{}'", name,
                        rest.substr(0, 60));
    return ChatLine{&command, std::string(rest)};
  }
  const std::string_view near = near_name(name, names);
  return make_error(ErrorCode::invalid_argument, "unknown command '{}': {} (// begins a message with a slash)",
                    name.substr(0, 60),
                    near.empty() ? std::string("/help lists all") : fmt::format("did you mean {}?", near));
}

std::string expand_home(std::string_view path) {
  const char* home = std::getenv("HOME");
  if (!path.starts_with("~/") || !home || !*home) return std::string(path);
  return fmt::format("{}{}", home, path.substr(1));
}

std::string chat_help() {
  std::string out;
  for (const ChatCommand& command : kCommands)
    out += fmt::format("  {:<20} {}\n",
                       fmt::format("{}{}{}", command.name, command.argument.empty() ? "" : " ", command.argument),
                       command.help);
  return out +
         "Ctrl-C stops an answer; at the prompt it clears the line, twice it ends the chat, as Ctrl-D does.\n"
         "A line that ends with \\ goes on in the next one; pasted text may have several lines.\n";
}

}  // namespace quern
