// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include <cstdio>
#include <cstdlib>

#include "quern/base/utf8.h"

namespace quern {
namespace {

void print_line(std::string_view text) { tell(fmt::format("quern: {}", one_line(text))); }

}  // namespace

bool is_terminal(int fd) { return isatty(fd) == 1; }

int terminal_width(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
  return 80;
}

bool has_colour(int fd) {
  const char* refused = std::getenv("NO_COLOR");
  const char* kind = std::getenv("TERM");
  return is_terminal(fd) && !(refused && *refused) && kind && std::string_view(kind) != "dumb";
}

std::string one_line(std::string_view text, size_t limit) {
  std::string out;
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    std::string shown;
    if (step.valid && step.code_point == '\n')
      shown = "\\n";
    else if (step.valid && step.code_point == '\t')
      shown = "\\t";
    else if (step.valid && (step.code_point < 0x20 || (step.code_point >= 0x7f && step.code_point < 0xa0)))
      shown = fmt::format("\\x{:02x}", static_cast<unsigned>(step.code_point));
    else
      utf8_append(shown, step.code_point);
    if (out.size() + shown.size() > limit) return out + "...";
    out += shown;
    text.remove_prefix(step.length);
  }
  return out;
}

int report(const Error& error) {
  if (error.code == ErrorCode::cancelled) {
    print_line(error.message.starts_with("interrupted") ? error.message : "interrupted");
    return 130;
  }
  print_line(error.message);
  return 1;
}

int report_usage(const Error& error) {
  print_line(error.message);
  return 2;
}

void note(std::string_view text) { print_line(text); }

void tell(std::string_view line) {
  const std::string whole = fmt::format("{}\n", line);
  // One write, so that lines of several processes on one terminal do not mix.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, whole.data(), whole.size());
}

int display_width(std::string_view text) {
  int width = 0;
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    width += step.valid ? utf8proc_charwidth(static_cast<utf8proc_int32_t>(step.code_point)) : 1;
    text.remove_prefix(step.length);
  }
  return width;
}

}  // namespace quern
