// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace quern {

/// Where an answer begins.
enum class AnswerPlace {
  anywhere,   ///< it may open its reasoning itself
  opened,     ///< after a "<think>" of the prompt
  reasoning,  ///< in the middle of a reasoning that the prompt has begun
};

/// Where the answer to a rendered prompt begins. `begun`: how much of the prompt's end is the beginning of the answer
/// itself, given to be gone on from (in bytes).
AnswerPlace answer_place(std::string_view prompt, size_t begun = 0);

/// Takes an answer that may begin with "<think>...</think>" apart while it streams. Text that could be a part of a tag
/// is held back; blanks around the reasoning belong to neither part.
class ReasoningSplitter {
 public:
  struct Piece {
    std::string reasoning, answer;
  };

  explicit ReasoningSplitter(AnswerPlace place);

  Piece push(std::string_view text);
  /// What was held back when the stream ends.
  Piece flush();

 private:
  enum class State { start, opened, reasoning, closed, answer };
  bool step(Piece& out);
  State state_ = State::start;
  std::string held_;
};

}  // namespace quern
