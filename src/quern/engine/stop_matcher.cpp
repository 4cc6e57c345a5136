// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/stop_matcher.h"

#include <algorithm>

namespace quern {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
}

std::string_view StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  if (stops_.empty()) return text;
  held_ += text;
  size_t match = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at < match) match = at, matched_ = stop;
  }
  if (match != std::string::npos) {
    stopped_ = true;
    out_.assign(held_, 0, match);
    held_.clear();
    return out_;
  }
  // The longest end of the text that begins a stop string stays.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, n))) {
        keep = n;
        break;
      }
    }
  }
  out_.assign(held_, 0, held_.size() - keep);
  held_.erase(0, out_.size());
  return out_;
}

std::string StopMatcher::flush() {
  std::string out = std::move(held_);
  held_.clear();
  return out;
}

}  // namespace quern
