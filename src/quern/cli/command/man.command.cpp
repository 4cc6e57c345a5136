// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/manual.h"
#include "quern/cli/output.h"
#include "quern/cli/terminal.h"
#include "quern/cli/version.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {
    {.name = "COMMAND",
     .help = "The command whose page is wanted; without it, the page of the program.",
     .required = false},
};
constexpr OptionSpec kOptions[] = {{.name = "--markdown", .help = "All commands as one Markdown page instead."}};
constexpr Example kExamples[] = {{.command = "quern man run | man -l -", .says = "Read the manual page of a command:"}};

int run(const Arguments& arguments) {
  const std::span<const Command* const> commands(command_table, command_table_size);
  Output out;
  if (arguments.has("--markdown")) {
    out.write(markdown_manual(commands));
    return out.finish();
  }
  const auto wanted = arguments.positional(0);
  if (!wanted) {
    out.write(program_manual(commands, kVersion));
    return out.finish();
  }
  for (const Command* command : commands) {
    if (command->name != *wanted) continue;
    out.write(command_manual(*command, kVersion));
    return out.finish();
  }
  return report_usage(make_error(ErrorCode::invalid_argument,
                                 "man: COMMAND: expected a command that `quern --help` lists, found '{}'", *wanted));
}

}  // namespace

extern const Command command_man;
const Command command_man = {
    .name = "man",
    .summary = "Print the manual pages as roff source.",
    .description =
        "The pages come from the same tables as the help texts. Installed packages bring them along, so that `man "
        "quern-run` works.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
