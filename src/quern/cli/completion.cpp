// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/completion.h"

#include <fmt/ranges.h>

#include <vector>

#include "quern/cli/arguments.h"

namespace quern {
namespace {

std::vector<const OptionSpec*> all_options(const Command& command) {
  std::vector<const OptionSpec*> out;
  for (const OptionSpec& option : command.options) out.push_back(&option);
  for (const OptionSpec& option : common_options) out.push_back(&option);
  return out;
}

std::vector<std::string_view> names_of(std::span<const OptionSpec* const> options) {
  std::vector<std::string_view> out;
  for (const OptionSpec* option : options) out.push_back(option->name);
  return out;
}

std::vector<std::string_view> names_of(std::span<const Command* const> commands) {
  std::vector<std::string_view> out;
  for (const Command* command : commands) out.push_back(command->name);
  return out;
}

/// In single quotes, for all three shells. Fish reads a backslash inside them; the tables have none (a test sees to
/// it).
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// The same with what zsh's _arguments reads as syntax escaped.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string bash_completion(std::span<const Command* const> commands) {
  std::string out =
      "# Completion of quern for bash; made by `quern completion bash`.\n"
      "_quern() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}\n"
      "  COMPREPLY=()\n"
      "  if ((COMP_CWORD == 1)); then\n";
  out += fmt::format(
      "    COMPREPLY=($(compgen -W \"{} help --help --version\" -- \"$cur\"))\n    return\n  fi\n  case $command:$prev "
      "in\n",
      fmt::join(names_of(commands), " "));
  for (const Command* command : commands)
    for (const OptionSpec* option : all_options(*command))
      if (!option->choices.empty())
        out += fmt::format("    {}:{}) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;;\n", command->name,
                           option->name, fmt::join(option->choices, " "));
  out += fmt::format("    help:help) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;;\n",
                     fmt::join(names_of(commands), " "));
  out += "  esac\n  if [[ $cur == -* ]]; then\n    case $command in\n";
  for (const Command* command : commands)
    out += fmt::format("      {}) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")) ;;\n", command->name,
                       fmt::join(names_of(all_options(*command)), " "));
  out +=
      "    esac\n    return\n  fi\n"
      "  compopt -o filenames 2>/dev/null\n"
      "  COMPREPLY=($(compgen -f -- \"$cur\"))\n"
      "}\n"
      "complete -F _quern quern\n";
  return out;
}

std::string zsh_completion(std::span<const Command* const> commands) {
  std::string out =
      "#compdef quern\n# Completion of quern for zsh; made by `quern completion zsh`.\n"
      "_quern() {\n  local -a commands\n  commands=(\n";
  for (const Command* command : commands)
    out += fmt::format("    {}\n", quoted(fmt::format("{}:{}", command->name, zsh_text(command->summary))));
  out +=
      "  )\n"
      "  if ((CURRENT == 2)); then\n    _describe -t commands 'quern command' commands\n    return\n  fi\n"
      "  local command=$words[2]\n  shift words\n  ((CURRENT--))\n  case $command in\n";
  for (const Command* command : commands) {
    out += fmt::format("    {})\n      _arguments -s \\\n", command->name);
    for (const OptionSpec* option : all_options(*command)) {
      std::string spec = fmt::format("{}{}[{}]", option->repeatable ? "*" : "", option->name, zsh_text(option->help));
      if (!option->choices.empty())
        spec += fmt::format(":{}:({})", option->metavar, fmt::join(option->choices, " "));
      else if (option->type == OptionType::path)
        spec += fmt::format(":{}:_files", option->metavar);
      else if (option->type != OptionType::flag)
        spec += fmt::format(":{}: ", option->metavar);
      out += fmt::format("        {} \\\n", quoted(spec));
    }
    out += "        '*:file:_files'\n      ;;\n";
  }
  out += "  esac\n}\n_quern \"$@\"\n";
  return out;
}

std::string fish_completion(std::span<const Command* const> commands) {
  std::string out = "# Completion of quern for fish; made by `quern completion fish`.\n";
  for (const Command* command : commands)
    out += fmt::format("complete -c quern -n __fish_use_subcommand -f -a {} -d {}\n", command->name,
                       quoted(command->summary));
  out +=
      "complete -c quern -n __fish_use_subcommand -l help -d 'Show help'\ncomplete -c quern -n __fish_use_subcommand "
      "-l version -d 'Show the version'\n";
  for (const Command* command : commands)
    for (const OptionSpec* option : all_options(*command)) {
      out += fmt::format("complete -c quern -n '__fish_seen_subcommand_from {}' -l {} -d {}", command->name,
                         option->name.substr(2), quoted(option->help));
      if (!option->choices.empty())
        out += fmt::format(" -x -a {}", quoted(fmt::format("{}", fmt::join(option->choices, " "))));
      else if (option->type == OptionType::path)
        out += " -r";
      else if (option->type != OptionType::flag)
        out += " -x";
      out += '\n';
    }
  return out;
}

}  // namespace quern
