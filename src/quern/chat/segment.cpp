// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/segment.h"

namespace quern {

std::string join_segments(const std::vector<Segment>& segments) {
  std::string text;
  for (const Segment& segment : segments) text += segment.text;
  return text;
}

}  // namespace quern
