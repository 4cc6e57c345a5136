// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace quern {

/// A piece of a rendered prompt. Control tokens are recognised in template text only: what users and tools wrote is
/// tokenised as plain text, whatever it looks like.
struct Segment {
  std::string text;
  bool from_user = false;
  bool operator==(const Segment&) const = default;
};

/// The text of all segments.
std::string join_segments(const std::vector<Segment>& segments);

}  // namespace quern
