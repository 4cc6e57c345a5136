// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/completion.h"

#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/output.h"
#include "quern/cli/terminal.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {{.name = "SHELL", .help = "bash, zsh or fish."}};
constexpr Example kExamples[] = {
    {.command = "source <(quern completion bash)", .says = "Complete in this bash:"},
    {.command = "quern completion fish > ~/.config/fish/completions/quern.fish",
     .says = "Complete in every fish from now on:"},
};

int run(const Arguments& arguments) {
  const std::span<const Command* const> commands(command_table, command_table_size);
  const std::string shell = *arguments.positional(0);
  Output out;
  if (shell == "bash")
    out.write(bash_completion(commands));
  else if (shell == "zsh")
    out.write(zsh_completion(commands));
  else if (shell == "fish")
    out.write(fish_completion(commands));
  else
    return report_usage(make_error(ErrorCode::invalid_argument,
                                   "completion: SHELL: expected one of bash, zsh, fish, found '{}'", shell));
  return out.finish();
}

}  // namespace

extern const Command command_completion;
const Command command_completion = {
    .name = "completion",
    .summary = "Print a completion script for a shell.",
    .description =
        "Completes commands, options and the values of options that have a fixed set. Installed packages bring these "
        "scripts along.",
    .positionals = kPositionals,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
