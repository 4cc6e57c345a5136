// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/manual.h"

#include <fmt/format.h>

#include "quern/cli/arguments.h"
#include "quern/cli/help.h"

namespace quern {
namespace {

struct Item {
  std::string_view name, says;
};

constexpr Item kEnvironment[] = {
    {"QUERN_MODELS", "Folder of the models that `quern list` shows, instead of the default below."},
    {"QUERN_FORCE_ISA", "Instruction-set level, as --isa."},
    {"NO_COLOR", "No colours, whatever the terminal can do."},
    {"XDG_DATA_HOME, XDG_CACHE_HOME, XDG_STATE_HOME", "Where the folders below lie."},
};
constexpr Item kFiles[] = {
    {"~/.local/share/quern/models",
     "Models that can be named instead of giving their path: .gguf files and model folders."},
    {"~/.cache/quern/models", "Models fetched for a trial (scripts/quickstart)."},
    {"~/.local/state/quern/history", "What was typed in chats."},
};
constexpr Item kExitCodes[] = {
    {"0", "Done."},
    {"1", "Failed; one line on standard error says why."},
    {"2", "Wrong usage."},
    {"70", "A mapped file was cut, or its disk failed, while it was in use; one line names it."},
    {"130", "Interrupted."},
};

void add_items(std::string& out, std::string_view title, std::span<const Item> items) {
  out += fmt::format(".SH {}\n", title);
  for (const Item& item : items) out += fmt::format(".TP\n.B {}\n{}\n", roff(item.name), roff(item.says));
}

void add_options(std::string& out, std::string_view title, std::span<const OptionSpec> options) {
  if (options.empty()) return;
  out += fmt::format(".SH {}\n", title);
  for (const OptionSpec& option : options) {
    out += fmt::format(".TP\n.B {}", roff(option.name));
    if (!option.metavar.empty()) out += fmt::format(" \\fI{}\\fR", roff(option.metavar));
    out += fmt::format("\n{}\n", roff(option_description(option)));
  }
}

std::string header(std::string_view name, std::string_view version) {
  return fmt::format(".TH {} 1 \"\" \"quern {}\" \"User Commands\"\n", roff(name), roff(version));
}

void add_markdown_options(std::string& out, std::span<const OptionSpec> options) {
  if (options.empty()) return;
  out += "\n| option | meaning |\n| --- | --- |\n";
  for (const OptionSpec& option : options) {
    std::string says;
    for (char c : option_description(option)) says += c == '|' ? std::string("\\|") : std::string(1, c);
    out += fmt::format("| `{}` | {} |\n", option_heading(option), says);
  }
}

void add_markdown_items(std::string& out, std::string_view title, std::span<const Item> items) {
  out += fmt::format("\n## {}\n\n", title);
  for (const Item& item : items) out += fmt::format("- `{}`: {}\n", item.name, item.says);
}

}  // namespace

std::string roff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    line_start = c == '\n';
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  return out;
}

std::string program_manual(std::span<const Command* const> commands, std::string_view version) {
  std::string out = header("QUERN", version);
  out +=
      ".SH NAME\nquern \\- runs, serves and compares open\\-weight language models\n"
      ".SH SYNOPSIS\n.B quern\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR] ...\n.SH DESCRIPTION\n"
      "Quern runs open\\-weight language models on this computer's processor, offline: GGUF files and folders as "
      "published on Hugging Face.\n"
      ".SH COMMANDS\n";
  for (const Command* command : commands)
    out += fmt::format(".TP\n.BR quern\\-{} (1)\n{}\n", roff(command->name), roff(command->summary));
  add_options(out, "OPTIONS OF EVERY COMMAND", common_options);
  add_items(out, "EXIT STATUS", kExitCodes);
  add_items(out, "ENVIRONMENT", kEnvironment);
  add_items(out, "FILES", kFiles);
  return out;
}

std::string command_manual(const Command& command, std::string_view version) {
  std::string title = fmt::format("QUERN-{}", command.name);
  for (char& c : title) c = static_cast<char>(c >= 'a' && c <= 'z' ? c & ~0x20 : c);
  std::string out = header(title, version);
  out += fmt::format(".SH NAME\nquern\\-{} \\- {}\n.SH SYNOPSIS\n{}\n.SH DESCRIPTION\n{}\n", roff(command.name),
                     roff(command.summary), roff(synopsis(command)), roff(command.description));
  if (!command.positionals.empty()) out += ".SH ARGUMENTS\n";
  for (const PositionalSpec& positional : command.positionals)
    out += fmt::format(".TP\n.I {}\n{}\n", roff(positional.name), roff(positional.help));
  add_options(out, "OPTIONS", command.options);
  add_options(out, "OPTIONS OF EVERY COMMAND", common_options);
  if (!command.examples.empty()) out += ".SH EXAMPLES\n";
  for (const Example& example : command.examples)
    out += fmt::format("{}\n.PP\n.RS\n.nf\n{}\n.fi\n.RE\n.PP\n", roff(example.says), roff(example.command));
  out += ".SH SEE ALSO\n.BR quern (1)\n";
  return out;
}

std::string markdown_manual(std::span<const Command* const> commands) {
  std::string out =
      "# The command line\n\nMade from the same tables as `quern --help`, the man pages and the shell completion: "
      "`quern man --markdown`.\n\n"
      "`quern COMMAND [OPTIONS] ...`. Answers go to standard output, everything else to standard error. With `--json` "
      "the output is one JSON\n"
      "object, or one per line where a command says so. An error is one line, `quern: what: where: expected, found`.\n"
      "Ctrl-C once ends the work cleanly, twice at once.\n\n## Options of every command\n";
  add_markdown_options(out, common_options);
  for (const Command* command : commands) {
    out += fmt::format("\n## {}\n\n{}\n\n    {}\n\n{}\n", command->name, command->summary, synopsis(*command),
                       command->description);
    if (!command->positionals.empty()) out += '\n';
    for (const PositionalSpec& positional : command->positionals)
      out += fmt::format("- `{}`: {}\n", positional.name, positional.help);
    add_markdown_options(out, command->options);
    for (const Example& example : command->examples)
      out += fmt::format("\n{}\n\n    {}\n", example.says, example.command);
  }
  add_markdown_items(out, "Exit codes", kExitCodes);
  add_markdown_items(out, "Environment", kEnvironment);
  add_markdown_items(out, "Files", kFiles);
  return out;
}

}  // namespace quern
