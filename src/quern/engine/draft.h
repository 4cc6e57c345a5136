// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "quern/engine/step_costs.h"
#include "quern/engine/suffix_automaton.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// The most tokens drafted for one sequence in one step.
inline constexpr int kMostDrafted = 16;

/// Guesses how one sequence goes on from what it said before: the continuation of the longest suffix that occurred
/// already. How far a guess may be trusted is learned from every token, drafted or not, by the length of that suffix
/// and how steadily it went on so far; how many tokens are worth guessing follows from that and from what steps cost.
/// Where guessing does not pay it stops, and tries again after a while. Only proposes: whoever verifies keeps the
/// answer exact. Engine thread only.
class Drafter {
 public:
  /// `costs` must outlive the drafter.
  explicit Drafter(const StepCosts& costs);

  /// Room for a sequence of so many tokens, all together.
  void reserve(int64_t tokens) { automaton_.reserve(tokens); }
  /// The prompt: teaches what follows what, not how far guesses can be trusted.
  void append(std::span<const TokenId> prompt);
  /// A token of the answer, in order: each one, accepted drafts included.
  void append(TokenId token);

  /// Up to `room` tokens that are worth verifying after the last one, often none; valid until the next call of anything
  /// here. `others`: tokens that the step has for other sequences.
  std::span<const TokenId> propose(int64_t room, int64_t others = 0);
  /// What became of a draft. Of its tokens `accepted` were right and appended.
  void verified(int64_t drafted, int64_t accepted);

 private:
  static constexpr int kLengths = 8, kSteadiness = 4;
  struct Acceptance {
    float share;
    float count;
  };
  Acceptance& acceptance(int length, int agreed);
  void learn(TokenId token);

  const StepCosts& costs_;  // constant after construction
  SuffixAutomaton automaton_;
  std::array<std::array<Acceptance, kSteadiness>, kLengths> acceptance_;
  std::vector<TokenId> draft_;
  int64_t others_ = 0;  // of the last proposal
  double profit_;       // of late drafts: the step's tokens for its time, of a plain step's; 1: nothing gained
  int64_t quiet_ = 0;   // tokens until the next try
  int64_t pause_;       // the next such while
};

}  // namespace quern
