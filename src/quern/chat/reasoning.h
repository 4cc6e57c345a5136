// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace quern {

/// Where an answer goes on from its prompt.
enum class AnswerPlace {
  start,      ///< it may open a reasoning
  opened,     ///< after "<think>"
  reasoning,  ///< inside a reasoning
  closed,     ///< after "</think>"
  answer,     ///< inside the answer itself
};

/// Where the answer to a rendered prompt goes on. `begun`: how much of the prompt's end is the beginning of the answer
/// itself, given to be gone on from (in bytes).
AnswerPlace answer_place(std::string_view prompt, size_t begun = 0);

/// Takes an answer that may begin with "<think>...</think>" apart while it streams. Text that could be a part of a tag
/// is held back; blanks around the reasoning belong to neither part.
class ReasoningSplitter {
 public:
  struct Piece {
    std::string reasoning, answer;
  };

  explicit ReasoningSplitter(AnswerPlace place) : state_(place) {}

  Piece push(std::string_view text);
  /// What was held back when the stream ends.
  Piece flush();

 private:
  friend AnswerPlace answer_place(std::string_view prompt, size_t begun);
  using State = AnswerPlace;
  bool step(Piece& out);
  State state_;
  std::string held_;
};

}  // namespace quern
