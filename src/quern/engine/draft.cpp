// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/draft.h"

#include <algorithm>

namespace quern {
namespace {

/// A single token that occurred before says nothing.
constexpr int kLeastMatch = 2;
/// Shorter than these belong to the class before: 2, 3, 4, 5 to 6, 7 to 9, 10 to 15, 16 to 31, more.
constexpr int kLengthEnds[] = {3, 4, 5, 7, 10, 16, 32};
/// Acceptance at the start, by length, of a suffix seen once; and what is added, by steadiness. Between what others
/// report of n-grams on code edits (0.69 at the first token) and on chat (0.3); the first dozens of tokens replace it.
constexpr float kStartByLength[] = {0.15f, 0.25f, 0.35f, 0.5f, 0.6f, 0.7f, 0.8f, 0.9f};
constexpr float kStartBySteadiness[] = {-0.15f, 0, 0.05f, 0.09f};
/// Tokens that the start values weigh, and those that count at the most: texts change.
constexpr float kStartCount = 6, kMostCount = 32;

/// What a draft must promise over a plain step: below that, errors of measurement decide.
constexpr double kLeastGain = 1.05;
/// The profit before the first draft, and that of a second chance: some failures, then two, end it.
constexpr double kFirstProfit = 1.2, kSecondProfit = 1.02;
/// How fast the profit follows.
constexpr double kProfitRate = 1.0 / 8;
constexpr int64_t kFirstPause = 16, kLongestPause = 512;
/// Behind that a draft is hardly reached.
constexpr float kLeastChance = 0.02f;

int length_class(int length) {
  return static_cast<int>(std::upper_bound(std::begin(kLengthEnds), std::end(kLengthEnds), length) -
                          std::begin(kLengthEnds));
}

/// Just changed, never tried, agreed once or more often.
int steadiness(int agreed) { return agreed < 0 ? 0 : agreed == 0 ? 1 : agreed < 3 ? 2 : 3; }

}  // namespace

Drafter::Drafter(const StepCosts& costs) : costs_(costs), profit_(kFirstProfit), pause_(kFirstPause) {
  static_assert(std::size(kStartByLength) == kLengths && std::size(kStartBySteadiness) == kSteadiness);
  for (int i = 0; i < kLengths; ++i)
    for (int j = 0; j < kSteadiness; ++j)
      acceptance_[i][j] = {std::max(kStartByLength[i] + kStartBySteadiness[j], 0.05f), kStartCount};
  draft_.reserve(kMostDrafted);
}

Drafter::Acceptance& Drafter::acceptance(int length, int agreed) {
  return acceptance_[length_class(length)][steadiness(agreed)];
}

void Drafter::append(std::span<const TokenId> prompt) {
  for (TokenId token : prompt) automaton_.append(token);
}

void Drafter::learn(TokenId token) {
  const int match = automaton_.match();
  if (automaton_.length(match) < kLeastMatch) return;
  const bool right = automaton_.tokens()[automaton_.expected_end(match) + 1] == token;
  Acceptance& a = acceptance(automaton_.length(match), automaton_.agreed(match));
  a.count = std::min(a.count + 1, kMostCount);
  a.share += ((right ? 1.0f : 0.0f) - a.share) / a.count;
}

void Drafter::append(TokenId token) {
  learn(token);
  automaton_.append(token);
  if (quiet_ > 0) --quiet_;
}

std::span<const TokenId> Drafter::propose(int64_t room, int64_t others) {
  draft_.clear();
  others_ = others;
  int state = automaton_.match(), length = automaton_.length(state);
  const int64_t most = std::min<int64_t>(room, kMostDrafted);
  if (quiet_ > 0 || most <= 0 || length < kLeastMatch) return {};

  const std::span<const TokenId> tokens = automaton_.tokens();
  int64_t end = automaton_.expected_end(state);
  double wanted = kLeastGain * static_cast<double>(others + 1) / costs_.of(others + 1);
  double expected = static_cast<double>(others + 1);  // tokens of the step, by what is likely
  float chance = 1;
  size_t best = 0;
  bool known = true;  // whether text and draft lie in `state`; else the occurrence at `end` alone goes on
  for (int64_t drafted = 1; drafted <= most; ++drafted, ++length) {
    chance *= acceptance(length, automaton_.agreed(state)).share;
    if (chance < kLeastChance) break;
    expected += chance;
    // What lies beyond the end of the text is the draft: "abcabc" goes on for ever.
    const int64_t place = end + 1 - std::ssize(tokens);
    draft_.push_back(place < 0 ? tokens[end + 1] : draft_[place]);
    const double rate = expected / costs_.of(others + 1 + drafted);
    if (rate > wanted) wanted = rate, best = draft_.size();
    ++end;
    const int next = known ? automaton_.next(state, draft_.back()) : -1;
    known = next >= 0;
    if (known) state = next, end = automaton_.expected_end(state);
  }
  return std::span<const TokenId>(draft_).first(best);
}

void Drafter::verified(int64_t drafted, int64_t accepted) {
  if (drafted <= 0) return;
  const double gained = static_cast<double>(others_ + 1 + accepted) / static_cast<double>(others_ + 1) *
                        costs_.of(others_ + 1) / costs_.of(others_ + 1 + drafted);
  profit_ += (gained - profit_) * kProfitRate;
  if (profit_ >= 1) {
    if (gained > 1) pause_ = kFirstPause;
    return;
  }
  quiet_ = pause_;
  pause_ = std::min(2 * pause_, kLongestPause);
  profit_ = kSecondProfit;
}

}  // namespace quern
