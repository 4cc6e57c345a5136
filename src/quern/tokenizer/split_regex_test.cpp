// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/split_regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <random>
#include <string>

#include "quern/base/utf8.h"
#include "quern/tokenizer/pre_rules.h"
#include "quern/tokenizer/regex_syntax.h"

namespace quern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  const auto regex = SplitRegex::compile(pattern);
  EXPECT_TRUE(regex.has_value()) << pattern << ": " << (regex ? "" : regex.error().message);
  std::vector<std::string> out;
  if (regex)
    for (const Span& m : regex->find_all(text)) out.emplace_back(text.substr(m.begin, m.end - m.begin));
  return out;
}

TEST(SplitRegex, takes_the_first_branch_that_matches_not_the_longest) {
  EXPECT_THAT(matches("ab|abc", "abc"), ElementsAre("ab"));
  EXPECT_THAT(matches("a|ab|c", "abc"), ElementsAre("a", "c"));
  EXPECT_THAT(matches("(?:ab|a)(?:bc)?", "abbc"), ElementsAre("abbc"));
}

TEST(SplitRegex, is_greedy_and_gives_back) {
  EXPECT_THAT(matches("a*ab", "aaab"), ElementsAre("aaab"));
  EXPECT_THAT(matches("a{2,3}", "aaaaaaaa"), ElementsAre("aaa", "aaa", "aa"));
  EXPECT_THAT(matches("a{2}", "aaaaa"), ElementsAre("aa", "aa"));
  EXPECT_THAT(matches("a+?b?", "aab"), ElementsAre("a", "ab"));
  EXPECT_THAT(matches("a{,2}x", "aaax"), ElementsAre("aax"));
}

TEST(SplitRegex, leaves_the_last_blank_to_the_next_word) {
  EXPECT_THAT(matches("\\s+(?!\\S)|\\s+", "a   b"), ElementsAre("  ", " "));
  EXPECT_THAT(matches("\\s+(?!\\S)|\\s+", "a   "), ElementsAre("   "));
  EXPECT_THAT(matches("\\s+$", "  a  "), ElementsAre("  "));
}

TEST(SplitRegex, classes_negate_nest_and_intersect) {
  EXPECT_THAT(matches("[^a-c]+", "abcxyz"), ElementsAre("xyz"));
  EXPECT_THAT(matches("[a-z&&[^aeiou]]+", "quern"), ElementsAre("q", "rn"));
  EXPECT_THAT(matches("[]x]+", "a]x["), ElementsAre("]x"));
  EXPECT_THAT(matches("[\\p{Lu}\\p{Nd}]+", "aB3\u0664c"), ElementsAre("B3\u0664"));
  EXPECT_THAT(matches("\\P{L}+", "a12b"), ElementsAre("12"));
  EXPECT_THAT(matches("\\p{Han}+", "a\u6f22\u5b57b"), ElementsAre("\u6f22\u5b57"));
}

TEST(SplitRegex, folds_case_with_the_two_letters_beyond_ascii) {
  EXPECT_THAT(matches("(?i:'s|k)", "'S K 's \u212A '\u017F"), ElementsAre("'S", "K", "'s", "\u212A", "'\u017F"));
  EXPECT_THAT(matches("(?i)a(?-i:b)c", "ABC AbC"), ElementsAre("AbC"));
  EXPECT_THAT(matches("(?:(?i)a|b)c", "Ac Bc bC"), ElementsAre("Ac", "Bc"));
}

TEST(SplitRegex, broken_bytes_are_no_letter_but_something_else) {
  EXPECT_THAT(matches("\\p{L}+|[^\\s\\p{L}]+", "a\xFF\xC3 b"), ElementsAre("a", "\xFF\xC3", "b"));
  EXPECT_THAT(matches("\\p{Any}+", "a\xFF"), ElementsAre("a"));
}

TEST(SplitRegex, white_space_is_the_unicode_property) {
  EXPECT_THAT(matches("\\s+", "a\u3000\u00A0b\u180Ec\u200Bd\x0B"),
              ElementsAre("\u3000\u00A0", "\x0B"));  // not U+180E, U+200B
}

TEST(SplitRegex, knows_letters_of_unicode_15) {
  EXPECT_THAT(matches("\\p{L}+", "\U00031350\U0001DF00"), ElementsAre("\U00031350\U0001DF00"));
}

TEST(SplitRegex, literals_mean_themselves) {
  const auto regex = SplitRegex::compile(escaped_regex("a.b*(\\"));
  ASSERT_TRUE(regex.has_value());
  EXPECT_EQ(regex->find_all("xa.b*(\\ aXb").size(), 1u);
  EXPECT_TRUE(SplitRegex::compile(escaped_regex(""))->find_all("abc").empty());
}

TEST(SplitRegex, refuses_what_it_cannot_do) {
  for (const char* pattern : {"(a", "a)", "[a", "a**?*?*?*?*?*", "(?<=a)b", "\\1", "\\p{Klingon}", "(?=ab)c", "*a",
                              "\\", "[z-a]", "a{3,2}", "a{5000}", "\\u12", "\\x{110000}", "[[:alpha:]]", "^a"}) {
    const auto regex = SplitRegex::compile(pattern);
    ASSERT_FALSE(regex.has_value()) << pattern;
    EXPECT_THAT(regex.error().message, HasSubstr("regex"));
  }
}

TEST(SplitRegex, large_programs_and_automata_are_refused_quickly) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(SplitRegex::compile("((a{100}){100}){100}").has_value());
  EXPECT_FALSE(SplitRegex::compile("(?:a|b)*a(?:a|b){20}").has_value());  // 2^21 states
  EXPECT_FALSE(SplitRegex::compile(std::string(100, '(') + "a" + std::string(100, ')')).has_value());
  EXPECT_FALSE(SplitRegex::compile(std::string(100000, 'a')).has_value());
  EXPECT_TRUE(SplitRegex::compile("(a+)+b|(.*)*x").has_value());  // slow elsewhere, harmless here
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took, std::chrono::seconds(20));  // under sanitizers; a second or so otherwise
}

/// Perl's semantics by plain backtracking over the tree: the oracle for the automaton.
class Backtracker {
 public:
  Backtracker(const RegexTree& tree, const std::u32string& text) : tree_(tree), text_(text) {}
  using Next = std::function<bool(size_t)>;

  bool match(int node_index, size_t at, const Next& next) {
    const RegexNode& node = tree_.nodes[node_index];
    switch (node.kind) {
      case RegexNode::Kind::empty:
        return next(at);
      case RegexNode::Kind::set:
        return at < text_.size() && tree_.sets[node.set].contains(text_[at]) && next(at + 1);
      case RegexNode::Kind::ahead:
        return (at < text_.size() ? tree_.sets[node.set].contains(text_[at]) : node.at_end) && next(at);
      case RegexNode::Kind::concat:
        return concat(node, 0, at, next);
      case RegexNode::Kind::choice:
        for (const int child : node.children)
          if (match(child, at, next)) return true;
        return false;
      case RegexNode::Kind::repeat:
        return repeat(node, 0, at, next);
    }
    return false;
  }

 private:
  bool concat(const RegexNode& node, size_t i, size_t at, const Next& next) {
    if (i == node.children.size()) return next(at);
    return match(node.children[i], at, [&, i](size_t end) { return concat(node, i + 1, end, next); });
  }
  bool repeat(const RegexNode& node, int count, size_t at, const Next& next) {
    const auto again = [&] {
      if (node.max >= 0 && count >= node.max) return false;
      return match(node.children[0], at,
                   [&](size_t end) { return (end > at || count < node.min) && repeat(node, count + 1, end, next); });
    };
    if (count < node.min) return again();
    return node.lazy ? next(at) || again() : again() || next(at);
  }

  const RegexTree& tree_;
  const std::u32string& text_;
};

std::vector<Span> expected_matches(const RegexTree& tree, const std::u32string& text) {
  std::vector<size_t> offset = {0};
  std::string bytes;
  for (const char32_t cp : text) utf8_append(bytes, cp), offset.push_back(bytes.size());
  std::vector<Span> out;
  Backtracker matcher(tree, text);
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    if (matcher.match(tree.root, at, [&](size_t e) { return end = e, true; }) && end > at) {
      out.push_back({offset[at], offset[end]});
      at = end;
    } else {
      ++at;
    }
  }
  return out;
}

TEST(SplitRegex, every_split_rule_agrees_with_backtracking) {
  const char32_t alphabet[] = {U'a',      U'B',      U's',          U'\'',     U'l',      U' ',      U' ',
                               U'\n',     U'\r',     U'\t',         U'0',      U'7',      U'.',      U'/',
                               U'$',      U'\u00A0', U'\u00E9',     U'\u0301', U'\u4E2D', U'\u3000', U'\u3042',
                               U'\u01C5', U'\u02B0', U'\U0001F600', U'\u0660'};
  std::mt19937 random(7);
  for (const PreRule& rule : pre_rules()) {
    for (const std::string_view pattern : rule.patterns) {
      const auto tree = parse_regex(pattern);
      const auto regex = SplitRegex::compile(pattern);
      ASSERT_TRUE(tree.has_value() && regex.has_value()) << rule.names << (regex ? "" : regex.error().message);
      for (int round = 0; round < 120; ++round) {
        std::u32string text;
        std::string bytes;
        for (int i = 0; i < 1 + round % 24; ++i) {
          text += alphabet[random() % std::size(alphabet)];
          utf8_append(bytes, text.back());
        }
        ASSERT_EQ(regex->find_all(bytes), expected_matches(*tree, text)) << pattern << "\n" << bytes;
      }
    }
  }
}

TEST(SplitRegex, ordinary_patterns_agree_with_backtracking) {
  std::mt19937 random(11);
  for (const char* pattern : {"(a|ab)(c|bcd)(d*)", "(?:a?b)+c|a", "a*?b|c+", "(?:a|b(?=c))+", "x*|b",
                              "(?:a{1,2}b?){2,3}", "a+$|b", "(?:ab|a)(?:c(?!d)|bc)", "[^ab]+?(?=a)|a", "(?:|a)b"}) {
    const auto tree = parse_regex(pattern);
    const auto regex = SplitRegex::compile(pattern);
    ASSERT_TRUE(tree.has_value() && regex.has_value()) << pattern;
    for (int round = 0; round < 400; ++round) {
      std::u32string text;
      for (int i = 0; i < round % 12; ++i) text += U"abcdx"[random() % 5];
      const std::string bytes(text.begin(), text.end());
      ASSERT_EQ(regex->find_all(bytes), expected_matches(*tree, text)) << pattern << " on " << bytes;
    }
  }
}

TEST(SplitRegex, runs_that_almost_match_take_linear_time) {
  // Blanks before a letter: tried at every place, "\s+$" would read the square of their number (here 10^10 steps).
  const std::string text = std::string(100'000, ' ') + "x" + std::string(5, ' ');
  const auto regex = SplitRegex::compile("\\s+$");
  ASSERT_TRUE(regex.has_value());
  EXPECT_THAT(regex->find_all(text), ElementsAre(Span{100'001, 100'006}));
  EXPECT_TRUE(SplitRegex::compile("a.*b")->find_all(std::string(200'000, 'a')).empty());
  EXPECT_EQ(SplitRegex::compile("a.*b|a")->find_all(std::string(2'000, 'a')).size(), 2'000u);
}

}  // namespace
}  // namespace quern
