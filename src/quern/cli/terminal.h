// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "quern/base/result.h"

namespace quern {

bool is_terminal(int fd);

/// Columns of the terminal behind `fd`; 80 where there is none.
int terminal_width(int fd);

/// Whether text on `fd` may be coloured: a terminal that is not "dumb", and no NO_COLOR in the environment.
bool has_colour(int fd);

/// Text for one line of a terminal: control characters as \xNN or \n, broken UTF-8 replaced, cut to `limit` bytes
/// between characters with "..." where it was longer.
std::string one_line(std::string_view text, size_t limit = 480);

// Messages on stderr, each one line that begins with "quern: ".
/// Prints the error; returns the exit code that goes with it: 1, or 130 where the user interrupted (of the message then
/// only one that begins with "interrupted" is shown).
int report(const Error& error);
/// The same for a wrong command line: 2.
int report_usage(const Error& error);
/// Something the user should know; no failure.
void note(std::string_view text);

/// A line on stderr as it is, for programs that wait for it. Where stderr cannot be written nothing happens.
void tell(std::string_view line);

/// Columns a text takes on a terminal (wide characters two, combining ones none).
int display_width(std::string_view text);

}  // namespace quern
