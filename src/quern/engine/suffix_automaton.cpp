// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/suffix_automaton.h"

#include <algorithm>

namespace quern {
namespace {
/// Suffixes, longest first, that learn from a new token how they go on. A bound, since "aaaa" has as many as tokens.
constexpr int kLearners = 4;
constexpr int kMostAgreed = 100;
constexpr size_t kFirstSlots = 64;
}  // namespace

SuffixAutomaton::SuffixAutomaton() : slots_(kFirstSlots, -1) {
  states_.push_back({.length = 0, .link = -1, .end = -1});
}

void SuffixAutomaton::reserve(int64_t tokens) {
  const auto n = static_cast<size_t>(std::max<int64_t>(tokens, 0));
  tokens_.reserve(n);
  states_.reserve(2 * n + 1);  // n tokens make at most 2n - 1 states and 3n - 4 ways on
  edges_.reserve(n + 1);
}

int64_t SuffixAutomaton::bytes() const {
  return static_cast<int64_t>(tokens_.size() * sizeof(int32_t) + states_.size() * sizeof(State) +
                              edges_.size() * sizeof(Edge) + slots_.size() * sizeof(int32_t));
}

size_t SuffixAutomaton::slot_of(int state, int32_t token) const {
  uint64_t x = static_cast<uint64_t>(state) << 32 | static_cast<uint32_t>(token);
  x = (x ^ x >> 29) * 0x9e3779b97f4a7c15;
  return (x ^ x >> 32) & (slots_.size() - 1);
}

int SuffixAutomaton::next(int state, int32_t token) const {
  const State& s = states_[state];
  if (s.target >= 0 && s.token == token) return s.target;
  if (s.edges < 0) return -1;
  for (size_t slot = slot_of(state, token); slots_[slot] >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
    const Edge& edge = edges_[slots_[slot]];
    if (edge.state == state && edge.token == token) return edge.target;
  }
  return -1;
}

int32_t* SuffixAutomaton::find(int state, int32_t token) {
  State& s = states_[state];
  if (s.target >= 0 && s.token == token) return &s.target;
  if (s.edges < 0) return nullptr;
  for (size_t slot = slot_of(state, token); slots_[slot] >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
    Edge& edge = edges_[slots_[slot]];
    if (edge.state == state && edge.token == token) return &edge.target;
  }
  return nullptr;
}

void SuffixAutomaton::grow_slots() {
  slots_.assign(slots_.size() * 2, -1);
  for (size_t i = 0; i < edges_.size(); ++i) {
    size_t slot = slot_of(edges_[i].state, edges_[i].token);
    while (slots_[slot] >= 0) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = static_cast<int32_t>(i);
  }
}

void SuffixAutomaton::add(int state, int32_t token, int32_t target) {
  State& s = states_[state];
  if (s.target < 0) {
    s.token = token, s.target = target;
    return;
  }
  if (2 * (edges_.size() + 1) > slots_.size()) grow_slots();
  size_t slot = slot_of(state, token);
  while (slots_[slot] >= 0) slot = (slot + 1) & (slots_.size() - 1);
  slots_[slot] = static_cast<int32_t>(edges_.size());
  edges_.push_back({state, token, target, s.edges});
  s.edges = slots_[slot];
}

/// A state for the substrings of `state` up to `length`, which go on in the same ways and remember the same.
int SuffixAutomaton::copy_of(int state, int length) {
  const State from = states_[state];
  const int copy = static_cast<int>(states_.size());
  states_.push_back({.length = length, .link = from.link, .end = from.end, .agreed = from.agreed});
  add(copy, from.token, from.target);
  for (int32_t edge = from.edges; edge >= 0; edge = edges_[edge].next) {
    const Edge way = edges_[edge];
    add(copy, way.token, way.target);
  }
  return copy;
}

/// Suffixes that had been there before: has `token` come next this time too? What came next steadily stays expected
/// over a single exception (a majority vote); else the latest continuation is.
void SuffixAutomaton::compare(int32_t token) {
  const auto here = static_cast<int32_t>(tokens_.size()) - 1;
  int state = states_[last_].link;
  for (int i = 0; i < kLearners && state > 0; ++i, state = states_[state].link) {
    State& s = states_[state];
    if (tokens_[s.end + 1] == token) {
      s.agreed = std::min(std::max(s.agreed, 0) + 1, kMostAgreed);
      s.end = here;
    } else if (s.agreed > 1) {
      s.agreed /= 2;
    } else {
      s.agreed = -1;
      s.end = here;
    }
  }
}

void SuffixAutomaton::extend(int32_t token) {
  const int whole = static_cast<int>(states_.size());
  const auto n = static_cast<int32_t>(tokens_.size());
  states_.push_back({.length = n, .link = 0, .end = n - 1});
  int state = last_;
  last_ = whole;
  int32_t* way = nullptr;
  for (; state >= 0 && !(way = find(state, token)); state = states_[state].link) add(state, token, whole);
  if (state < 0) return;
  const int there = *way;
  if (states_[there].length == states_[state].length + 1) {
    states_[whole].link = there;
    return;
  }
  // Longer substrings of `there` do not end here: what does gets a state of its own.
  const int copy = copy_of(there, states_[state].length + 1);
  states_[there].link = states_[whole].link = copy;
  for (; state >= 0 && (way = find(state, token)) && *way == there; state = states_[state].link) *way = copy;
}

void SuffixAutomaton::append(int32_t token) {
  compare(token);
  tokens_.push_back(token);
  extend(token);
}

}  // namespace quern
