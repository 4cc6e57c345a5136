// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/reasoning.h"

#include <algorithm>
#include <utility>

namespace quern {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>", kBlanks = " \t\r\n";

/// Length of the longest end of `text` that `tag` begins with.
size_t partial_tag(std::string_view text, std::string_view tag) {
  for (size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n)
    if (text.ends_with(tag.substr(0, n))) return n;
  return 0;
}

void drop_leading_blanks(std::string& text) { text.erase(0, std::min(text.find_first_not_of(kBlanks), text.size())); }

}  // namespace

AnswerPlace answer_place(std::string_view prompt, size_t begun) {
  const size_t end = prompt.size() - std::min(begun, prompt.size());
  const size_t last = prompt.substr(0, end).find_last_not_of(" \n");
  const bool opened = last != prompt.npos && prompt.substr(0, last + 1).ends_with(kOpen);
  ReasoningSplitter splitter(opened ? AnswerPlace::opened : AnswerPlace::start);
  splitter.push(prompt.substr(end));
  return splitter.state_;
}

/// One move of the machine; false when it waits for more text.
bool ReasoningSplitter::step(Piece& out) {
  switch (state_) {
    case State::start: {
      const size_t begin = std::min(held_.find_first_not_of(kBlanks), held_.size());
      const std::string_view rest = std::string_view(held_).substr(begin);
      if (rest.size() < kOpen.size() && kOpen.starts_with(rest)) return false;
      if (rest.starts_with(kOpen)) {
        held_.erase(0, begin + kOpen.size());
        state_ = State::opened;
      } else {
        state_ = State::answer;  // blanks and all
      }
      return true;
    }
    case State::opened:
    case State::closed:
      drop_leading_blanks(held_);
      if (held_.empty()) return false;
      state_ = state_ == State::opened ? State::reasoning : State::answer;
      return true;
    case State::reasoning: {
      const size_t end = held_.find(kClose);
      // Held back: the beginning of a tag, and blanks that may be the last before it.
      size_t ready = end != std::string::npos ? end : held_.size() - partial_tag(held_, kClose);
      const size_t last = ready == 0 ? std::string::npos : held_.find_last_not_of(kBlanks, ready - 1);
      ready = last == std::string::npos ? 0 : last + 1;
      out.reasoning.append(held_, 0, ready);
      if (end == std::string::npos) {
        held_.erase(0, ready);
        return false;
      }
      held_.erase(0, end + kClose.size());
      state_ = State::closed;
      return true;
    }
    case State::answer:
      out.answer += std::exchange(held_, {});
      return false;
  }
  return false;
}

ReasoningSplitter::Piece ReasoningSplitter::push(std::string_view text) {
  Piece out;
  held_ += text;
  while (step(out)) {
  }
  return out;
}

ReasoningSplitter::Piece ReasoningSplitter::flush() {
  Piece out;
  if (state_ == State::start || state_ == State::answer) out.answer = std::exchange(held_, {});
  if (state_ == State::reasoning) {
    out.reasoning = std::exchange(held_, {});
    out.reasoning.erase(out.reasoning.find_last_not_of(kBlanks) + 1);
  }
  return out;
}

}  // namespace quern
