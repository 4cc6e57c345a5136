// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <clocale>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "quern/cli/arguments.h"
#include "quern/cli/help.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/lost_file.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/output.h"
#include "quern/cli/standard_files.h"
#include "quern/cli/terminal.h"
#include "quern/cli/version.h"
#include "quern/kernels/kernel_table.h"

namespace {

using namespace quern;

int print_version(const Arguments& arguments) {
  const auto forced = wanted_isa(arguments);
  if (!forced) return report(forced.error());
  std::string levels;
  for (Isa isa : usable_isas()) levels += fmt::format("{}{}", levels.empty() ? "" : " ", isa_name(isa));
  Output out;
  const Isa isa = forced->value_or(best_isa());
  out.line(fmt::format("quern {} (instruction set {}; attention in {}; this machine runs {})", kVersion, isa_name(isa),
                       attention_form_name(best_attention_form(isa)), levels));
  return out.finish();
}

int print_help(const Command* command) {
  // Long lines are hard to read however wide the window is.
  const int width = std::min(is_terminal(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 100, 100);
  Output out;
  out.write(command ? command_help(*command, width)
                    : program_help({command_table, static_cast<size_t>(command_table_size)}, width));
  return out.finish();
}

int run(const std::vector<std::string>& words) {
  auto line = parse_command_line({command_table, static_cast<size_t>(command_table_size)}, words);
  if (!line) return report_usage(line.error());
  switch (line->kind) {
    case Invocation::Kind::help:
      return print_help(line->command);
    case Invocation::Kind::version:
      return print_version(line->arguments);
    case Invocation::Kind::run:
      return line->command->run(line->arguments);
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_files();
  std::setlocale(LC_CTYPE, "");  // the line editor's idea of characters; numbers stay as in C
  install_interrupt_handlers();
  install_lost_file_handler();
  if (usable_isas().empty())
    return report(make_error(ErrorCode::unsupported,
                             "this processor: expected x86-64-v2 (SSE 4.2 and POPCNT) at least, found less"));
  // Libraries throw, and memory can run out anywhere: it ends here, in one line.
  try {
    return run(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  } catch (const std::bad_alloc&) {
    return report(make_error(ErrorCode::out_of_memory, "out of memory"));
  } catch (const std::exception& e) {
    return report(make_error(ErrorCode::internal, "internal error: {}", e.what()));
  } catch (...) {
    return report(make_error(ErrorCode::internal, "internal error"));
  }
}
