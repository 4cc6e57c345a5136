// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/tokenizer/code_points.h"

namespace quern {

/// A parsed regular expression. Children are indices into `nodes`.
struct RegexNode {
  enum class Kind : uint8_t {
    empty,
    set,     ///< one symbol of `set`
    concat,  ///< all children in order
    choice,  ///< the first child that leads to a match
    repeat,  ///< the child `min` to `max` times (max < 0: any number), as many as possible or (lazy) as few
    ahead,   ///< the next symbol is in `set`, or the text ends and `at_end`; consumes nothing
  };
  Kind kind = Kind::empty;
  int set = -1;
  bool at_end = false;
  bool lazy = false;
  int min = 0, max = 0;
  std::vector<int> children;
};

struct RegexTree {
  std::vector<RegexNode> nodes;
  std::vector<CodePointSet> sets;
  int root = -1;
};

/// The syntax that split rules of published tokenizers use (docs/tokenizers.md): literals, classes with ranges,
/// negation, nesting and &&, \p{..} \P{..} \s \S \d \D \w \W, groups, (?i:..), | * + ? {m,n} (lazy and possessive forms
/// too), $ and lookahead at one symbol. Anything else is refused as unsupported. Pattern length and nesting are
/// limited.
Result<RegexTree> parse_regex(std::string_view pattern);

}  // namespace quern
