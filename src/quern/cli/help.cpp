// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/help.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "quern/cli/arguments.h"
#include "quern/cli/terminal.h"

namespace quern {
namespace {

constexpr int kColumn = 26;  // where descriptions begin

void add_wrapped(std::string& out, std::string_view text, int width, int indent) {
  for (const std::string& line : wrap(text, width - indent)) out += fmt::format("{:{}}{}\n", "", indent, line);
}

/// A name and its description in two columns; a long name takes a line of its own.
void add_entry(std::string& out, std::string_view name, std::string_view text, int width) {
  const std::vector<std::string> lines = wrap(text, std::max(width - kColumn, 20));
  const bool fits = display_width(name) + 4 <= kColumn;
  out += fits ? fmt::format("  {:{}}", name, kColumn - 2) : fmt::format("  {}\n", name);
  for (size_t i = 0; i < lines.size(); ++i)
    out += i == 0 && fits ? lines[i] + '\n' : fmt::format("{:{}}{}\n", "", kColumn, lines[i]);
}

void add_options(std::string& out, std::string_view title, std::span<const OptionSpec> options, int width) {
  if (options.empty()) return;
  out += fmt::format("\n{}\n", title);
  for (const OptionSpec& option : options) add_entry(out, option_heading(option), option_description(option), width);
}

}  // namespace

std::vector<std::string> wrap(std::string_view text, int width) {
  std::vector<std::string> lines;
  while (true) {  // a line break in the text is one in the result
    const size_t end = text.find('\n');
    std::string_view paragraph = text.substr(0, end);
    std::string line;
    while (!paragraph.empty()) {
      const std::string_view word = paragraph.substr(0, paragraph.find(' '));
      paragraph.remove_prefix(std::min(word.size() + 1, paragraph.size()));
      if (word.empty()) continue;
      if (!line.empty() && display_width(line) + 1 + display_width(word) > width) {
        lines.push_back(std::move(line));
        line.clear();
      }
      if (!line.empty()) line += ' ';
      line += word;
    }
    lines.push_back(std::move(line));
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

std::string synopsis(const Command& command) {
  std::string out = fmt::format("quern {} [OPTIONS]", command.name);
  for (const PositionalSpec& positional : command.positionals) {
    const std::string name = fmt::format("{}{}", positional.name, positional.repeatable ? "..." : "");
    out += positional.required ? " " + name : fmt::format(" [{}]", name);
  }
  return out;
}

std::string option_heading(const OptionSpec& option) {
  return option.metavar.empty() ? std::string(option.name) : fmt::format("{} {}", option.name, option.metavar);
}

std::string option_description(const OptionSpec& option) {
  std::string out(option.help);
  if (!option.choices.empty()) out += fmt::format(" One of {}.", fmt::join(option.choices, ", "));
  if (option.min < option.max && option.max < 1e9) {
    const std::string range = expected_text(option);
    out += fmt::format(" {}{}.", static_cast<char>(range[0] & ~0x20), range.substr(1));
  }
  if (!option.default_text.empty()) out += fmt::format(" Default: {}.", option.default_text);
  if (option.repeatable) out += " May be given several times.";
  return out;
}

std::string program_help(std::span<const Command* const> commands, int width) {
  std::string out =
      "Quern runs open-weight language models on this computer's processor, offline.\n\nUsage: quern COMMAND [OPTIONS] "
      "...\n\nCommands\n";
  for (const Command* command : commands) add_entry(out, command->name, command->summary, width);
  add_options(out, "Options of every command", common_options, width);
  out += "\nExamples\n";
  for (const Command* command : commands)
    if (!command->examples.empty()) out += fmt::format("  {}\n", command->examples.front().command);
  out += '\n';
  add_wrapped(out,
              "`quern COMMAND --help` tells all about one command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 "
              "interrupted.",
              width, 0);
  return out;
}

std::string command_help(const Command& command, int width) {
  std::string out = fmt::format("{}\n\nUsage: {}\n\n", command.summary, synopsis(command));
  add_wrapped(out, command.description, width, 0);
  if (!command.positionals.empty()) {
    out += "\nArguments\n";
    for (const PositionalSpec& positional : command.positionals)
      add_entry(out, positional.name, positional.help, width);
  }
  add_options(out, "Options", command.options, width);
  add_options(out, "Options of every command", common_options, width);
  if (!command.examples.empty()) {
    out += "\nExamples\n";
    for (const Example& example : command.examples) {
      add_wrapped(out, example.says, width, 2);
      out += fmt::format("    {}\n", example.command);
    }
  }
  return out;
}

}  // namespace quern
