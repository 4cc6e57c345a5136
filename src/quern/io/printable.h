// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace quern {

/// A name from outside bytes as an error message may show it: as it is where it is short printable ASCII, else quoted,
/// escaped and cut after `limit` bytes, so that it stays on one line and cannot steer a terminal.
std::string printable(std::string_view text, size_t limit = 80);

/// The start of a file that Git LFS left in place of its content.
bool is_lfs_pointer(std::string_view start);

}  // namespace quern
