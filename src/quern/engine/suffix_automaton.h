// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quern {

/// Every substring of a growing list of token ids (Blumer et al. 1985): constant time for a new token, amortised, and
/// at most about 100 bytes of it. A state is a set of substrings that end at the same places; state 0 is the empty one.
/// Each state also remembers how its substrings went on: what came next most steadily. One thread at a time.
class SuffixAutomaton {
 public:
  SuffixAutomaton();

  /// Room for so many tokens, all together, so that `append` allocates nothing but larger hash tables. Address space:
  /// memory comes with use.
  void reserve(int64_t tokens);
  void append(int32_t token);

  std::span<const int32_t> tokens() const { return tokens_; }

  /// The longest suffix that also ends somewhere before the end; state 0 if there is none.
  int match() const { return states_[last_].link < 0 ? 0 : states_[last_].link; }
  /// Tokens of the longest substring of a state.
  int length(int state) const { return states_[state].length; }
  /// Where the substrings of a state followed by `token` are; negative: nowhere.
  int next(int state, int32_t token) const;

  /// Position of the last token of an occurrence whose continuation is the one to expect. It has a continuation unless
  /// it is the end of all tokens, which `match()` never says.
  int expected_end(int state) const { return states_[state].end; }
  /// How often in a row the expectation came true when it was tried, halved when it did not; -1 if it has just changed,
  /// 0 if it was never tried.
  int agreed(int state) const { return states_[state].agreed; }

  int64_t bytes() const;

 private:
  // Most states have one way on, which lies in them; the others are edges, found by hash and listed by state.
  struct State {
    int32_t length, link, end;
    int32_t agreed = 0;
    int32_t token = -1, target = -1;
    int32_t edges = -1;
  };
  struct Edge {
    int32_t state, token, target, next;
  };
  int32_t* find(int state, int32_t token);
  void add(int state, int32_t token, int32_t target);
  int copy_of(int state, int length);
  size_t slot_of(int state, int32_t token) const;
  void grow_slots();
  void compare(int32_t token);
  void extend(int32_t token);

  std::vector<int32_t> tokens_;
  std::vector<State> states_;
  std::vector<Edge> edges_;
  std::vector<int32_t> slots_;  // of edges, -1: free; a power of two, at most half taken
  int last_ = 0;
};

}  // namespace quern
