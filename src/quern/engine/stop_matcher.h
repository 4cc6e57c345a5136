// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quern {

/// Watches a stream of text for stop strings. Text that could be the beginning of one is held back; the stop string
/// itself and what follows it are dropped.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);

  /// The text that may go out now, valid until the next call and as long as `text`. After a match: everything before
  /// the stop string, and `stopped` is true.
  std::string_view push(std::string_view text);
  /// What was held back when the stream ends without a match.
  std::string flush();
  bool stopped() const { return stopped_; }
  /// The stop string that was met; empty: none.
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_, out_, matched_;
  bool stopped_ = false;
};

}  // namespace quern
