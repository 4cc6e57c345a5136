// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/tokenizer/code_points.h"

namespace quern {

/// Half-open range of bytes of a text.
struct Span {
  size_t begin = 0, end = 0;
  bool operator==(const Span&) const = default;
};

/// A regular expression compiled to a deterministic automaton when the file is loaded, so that no text can make it
/// slow: the meaning is Perl's (leftmost, first alternative, greedy), the cost one table look-up per character.
/// Compilation has limits on pattern, program and automaton; a pattern beyond them is refused. Immutable.
///
/// Method: Thompson's construction; a state is the list of threads in order of preference, cut behind the first that
/// matches (R. Cox, "Regular Expression Matching: the Virtual Machine Approach"); a look-ahead at one symbol is decided
/// when that symbol is known, one step later.
class SplitRegex {
 public:
  static Result<SplitRegex> compile(std::string_view pattern);

  /// All matches from left to right, empty ones left out. Broken UTF-8: each maximal invalid part is one kNoCharacter.
  std::vector<Span> find_all(std::string_view text) const;

 private:
  friend class AutomatonBuilder;
  using Symbol = uint8_t;  // a class of code points that no set of the pattern tells apart

  Symbol symbol_of(char32_t cp) const;
  Symbol next_symbol(std::string_view text, size_t at, size_t& length) const;
  bool can_start_anywhere_later(std::string_view text, size_t from, std::vector<bool>& starts) const;

  int n_symbols_ = 0;
  std::vector<Symbol> basic_plane_;                  // of the code points below 0x10000
  std::vector<std::pair<char32_t, Symbol>> beyond_;  // first code points of the runs from there on
  // Forward: [state * n_symbols + symbol] -> next state, kMatched set if a match ends before the symbol. State 0 is
  // dead.
  std::vector<uint16_t> next_;
  std::vector<bool> matches_at_end_;
  // Backward: whether a match starts here, from the same fact one symbol later. Empty if it took too many states.
  std::vector<uint16_t> back_next_;
  std::vector<bool> back_starts_;
};

/// The pattern that matches exactly this text.
std::string escaped_regex(std::string_view text);

}  // namespace quern
