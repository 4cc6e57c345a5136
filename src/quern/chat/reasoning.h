// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace quern {

/// Whether a rendered prompt ends inside an open "<think>".
bool ends_in_reasoning(std::string_view prompt);

/// Takes an answer that may begin with "<think>...</think>" apart while it streams. Text that could be a part of a tag
/// is held back; blanks around the reasoning belong to neither part.
class ReasoningSplitter {
 public:
  struct Piece {
    std::string reasoning, answer;
  };

  /// `inside`: the prompt has opened the reasoning already.
  explicit ReasoningSplitter(bool inside) : state_(inside ? State::opened : State::start) {}

  Piece push(std::string_view text);
  /// What was held back when the stream ends.
  Piece flush();

 private:
  enum class State { start, opened, reasoning, closed, answer };
  bool step(Piece& out);
  State state_;
  std::string held_;
};

}  // namespace quern
