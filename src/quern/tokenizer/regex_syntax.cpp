// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/regex_syntax.h"

#include <algorithm>
#include <utility>

#include "quern/base/utf8.h"

namespace quern {
namespace {

constexpr size_t kMaxPatternBytes = 8192;
constexpr int kMaxDepth = 40;
constexpr int kMaxRepeat = 1000;

class Parser {
 public:
  explicit Parser(std::string_view pattern) : text_(pattern) {}

  Result<RegexTree> run() {
    QUERN_TRY(tree_.root, choice(0));
    if (!done()) return refuse("a ')' without its '('");
    return std::move(tree_);
  }

 private:
  bool done() const { return at_ >= text_.size(); }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool eat(std::string_view s) {
    if (text_.substr(at_, s.size()) != s) return false;
    at_ += s.size();
    return true;
  }
  Error refuse(std::string_view what) const {
    return make_error(ErrorCode::unsupported, "regex: {} at byte {} of {}", what, at_, text_.size());
  }

  int add(RegexNode node) {
    tree_.nodes.push_back(std::move(node));
    return static_cast<int>(tree_.nodes.size()) - 1;
  }
  int add_set(CodePointSet set) {
    const auto known = std::find(tree_.sets.begin(), tree_.sets.end(), set);
    if (known != tree_.sets.end()) return static_cast<int>(known - tree_.sets.begin());
    tree_.sets.push_back(std::move(set));
    return static_cast<int>(tree_.sets.size()) - 1;
  }
  int set_node(CodePointSet set) { return add({.kind = RegexNode::Kind::set, .set = add_set(std::move(set))}); }

  Result<int> choice(int depth) {
    if (depth > kMaxDepth) return refuse("groups nested too deep");
    std::vector<int> branches;
    do {
      QUERN_TRY(const int branch, concat(depth));
      branches.push_back(branch);
    } while (eat("|"));
    if (branches.size() == 1) return branches[0];
    return add({.kind = RegexNode::Kind::choice, .children = std::move(branches)});
  }

  Result<int> concat(int depth) {
    std::vector<int> parts;
    while (!done() && peek() != '|' && peek() != ')') {
      QUERN_TRY(const int part, quantified(depth));
      parts.push_back(part);
    }
    if (parts.size() == 1) return parts[0];
    if (parts.empty()) return add({});
    return add({.kind = RegexNode::Kind::concat, .children = std::move(parts)});
  }

  Result<int> quantified(int depth) {
    QUERN_TRY(int node, atom(depth));
    for (int stacked = 0; !done(); ++stacked) {
      int min = 0, max = 0;
      if (eat("*"))
        min = 0, max = -1;
      else if (eat("+"))
        min = 1, max = -1;
      else if (eat("?"))
        min = 0, max = 1;
      else if (peek() == '{' && counted(min, max)) {
        if (min > kMaxRepeat || max > kMaxRepeat || (max >= 0 && max < min)) return refuse("a repetition out of range");
      } else {
        break;
      }
      if (stacked > 4) return refuse("stacked quantifiers");
      const bool lazy = eat("?");
      // Possessive forms are taken as greedy ones. Published rules use them only where giving back could not help: the
      // symbol that follows is outside the repeated class.
      if (!lazy) eat("+");
      node = add({.kind = RegexNode::Kind::repeat, .lazy = lazy, .min = min, .max = max, .children = {node}});
    }
    return node;
  }

  /// {m} {m,} {m,n} {,n}; otherwise the brace is a literal and nothing is consumed.
  bool counted(int& min, int& max) {
    size_t p = at_ + 1;
    const auto number = [&]() -> int {
      if (p >= text_.size() || text_[p] < '0' || text_[p] > '9') return -1;
      int v = 0;
      while (p < text_.size() && text_[p] >= '0' && text_[p] <= '9') v = std::min(v * 10 + (text_[p++] - '0'), 1000000);
      return v;
    };
    const int low = number();
    int high = low;
    if (p < text_.size() && text_[p] == ',') {
      ++p;
      high = number();
      if (low < 0 && high < 0) return false;
    }
    if (p >= text_.size() || text_[p] != '}' || (low < 0 && high < 0)) return false;
    at_ = p + 1;
    min = std::max(low, 0), max = high;
    return true;
  }

  Result<int> atom(int depth) {
    switch (peek()) {
      case '(':
        return group(depth);
      case '[': {
        QUERN_TRY(CodePointSet set, char_class(depth + 1));
        return set_node(std::move(set));
      }
      case '.':
        ++at_;
        return set_node(CodePointSet::one('\n').negated());
      case '$':
        ++at_;
        return add({.kind = RegexNode::Kind::ahead, .set = add_set({}), .at_end = true});
      case '^':
        return refuse("'^' is not built here");
      case '*':
      case '+':
      case '?':
        return refuse("a quantifier with nothing before it");
      case '\\': {
        if (peek(1) == 'z' || peek(1) == 'Z') {
          at_ += 2;
          return add({.kind = RegexNode::Kind::ahead, .set = add_set({}), .at_end = true});
        }
        QUERN_TRY(CodePointSet set, escape());
        return set_node(std::move(set));
      }
      default: {
        QUERN_TRY(const char32_t cp, literal());
        return set_node(ignore_case_ ? with_other_case(cp) : CodePointSet::one(cp));
      }
    }
  }

  Result<char32_t> literal() {
    const Utf8Step step = utf8_decode(text_.substr(at_));
    if (!step.valid) return refuse("broken UTF-8");
    at_ += step.length;
    return step.code_point;
  }

  Result<int> group(int depth) {
    ++at_;                                  // '('
    const bool case_before = ignore_case_;  // (?i) lasts to the end of its group
    if (eat("?=")) return lookahead(depth, false);
    if (eat("?!")) return lookahead(depth, true);
    if (eat("?i)")) {
      ignore_case_ = true;
      return add({});
    }
    if (eat("?i:"))
      ignore_case_ = true;
    else if (eat("?-i:"))
      ignore_case_ = false;
    else if (eat("?:") || eat("?>")) {
    } else if (peek() == '?') {
      return refuse("this kind of group is not built here");
    }
    QUERN_TRY(const int inside, choice(depth + 1));
    ignore_case_ = case_before;
    if (!eat(")")) return refuse("a '(' without its ')'");
    return inside;
  }

  Result<int> lookahead(int depth, bool negative) {
    QUERN_TRY(const int inside, choice(depth + 1));
    if (!eat(")")) return refuse("a '(' without its ')'");
    CodePointSet set;
    bool at_end = false;
    if (!one_symbol(inside, set, at_end)) return refuse("lookahead at more than one character is not built here");
    if (negative) set = set.negated(), at_end = !at_end;
    return add({.kind = RegexNode::Kind::ahead, .set = add_set(std::move(set)), .at_end = at_end});
  }

  /// Whether what matches here is one symbol or the end of the text, and which.
  bool one_symbol(int index, CodePointSet& set, bool& at_end) const {
    const RegexNode& node = tree_.nodes[index];
    switch (node.kind) {
      case RegexNode::Kind::set:
        set = set.united(tree_.sets[node.set]);
        return true;
      case RegexNode::Kind::ahead:
        at_end = at_end || node.at_end;
        return tree_.sets[node.set].ranges().empty();
      case RegexNode::Kind::choice:
        for (const int child : node.children)
          if (!one_symbol(child, set, at_end)) return false;
        return true;
      case RegexNode::Kind::repeat:  // looking at one or more of a class is looking at one
        return node.min == 1 && tree_.nodes[node.children[0]].kind == RegexNode::Kind::set &&
               one_symbol(node.children[0], set, at_end);
      default:
        return false;
    }
  }

  /// What stands after a backslash, in or outside a class.
  Result<CodePointSet> escape() {
    ++at_;
    if (done()) return refuse("a backslash at the end");
    const char c = text_[at_];
    switch (c) {
      case 'p':
      case 'P':
        return property();
      case 's':
        ++at_;
        return white_space_set();
      case 'S':
        ++at_;
        return white_space_set().negated();
      case 'd':
        ++at_;
        return *property_set("Nd");
      case 'D':
        ++at_;
        return property_set("Nd")->negated();
      case 'w':
        ++at_;
        return word_set();
      case 'W':
        ++at_;
        return word_set().negated();
      default:
        break;
    }
    QUERN_TRY(const char32_t cp, escaped_character());
    return ignore_case_ ? with_other_case(cp) : CodePointSet::one(cp);
  }

  static CodePointSet word_set() {
    return property_set("L")->united(*property_set("M")).united(*property_set("N")).united(*property_set("Pc"));
  }

  Result<CodePointSet> property() {
    const bool negative = text_[at_++] == 'P';
    std::string_view name = text_.substr(at_, 1);
    ++at_;
    bool caret = false;
    if (name == "{") {
      const size_t close = text_.find('}', at_);
      if (close == text_.npos) return refuse("a '{' without its '}'");
      name = text_.substr(at_, close - at_);
      at_ = close + 1;
      if (!name.empty() && name.front() == '^') caret = true, name.remove_prefix(1);
    }
    const auto set = property_set(name);
    if (!set) return refuse("an unknown property");
    return negative != caret ? set->negated() : *set;
  }

  Result<char32_t> escaped_character() {
    const char c = text_[at_];
    const auto hex = [&](size_t from, size_t digits) -> Result<char32_t> {
      char32_t v = 0;
      if (from + digits > text_.size() || digits == 0 || digits > 6) return refuse("a broken hexadecimal escape");
      for (const char d : text_.substr(from, digits)) {
        const int n = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10 : -1;
        if (n < 0) return refuse("a broken hexadecimal escape");
        v = v * 16 + static_cast<char32_t>(n);
      }
      if (v >= kNoCharacter) return refuse("a code point out of range");
      at_ = from + digits;
      return v;
    };
    switch (c) {
      case 'n':
        ++at_;
        return U'\n';
      case 'r':
        ++at_;
        return U'\r';
      case 't':
        ++at_;
        return U'\t';
      case 'f':
        ++at_;
        return U'\f';
      case 'v':
        ++at_;
        return U'\v';
      case 'u':
        if (peek(1) != '{') return hex(at_ + 1, 4);
        [[fallthrough]];
      case 'x': {
        if (peek(1) != '{') return hex(at_ + 1, 2);
        const size_t close = text_.find('}', at_);
        if (close == text_.npos) return refuse("a '{' without its '}'");
        QUERN_TRY(const char32_t v, hex(at_ + 2, close - at_ - 2));
        ++at_;
        return v;
      }
      default:
        break;
    }
    if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) return refuse("an unknown escape");
    return literal();
  }

  /// A class from its '[' to its ']'.
  Result<CodePointSet> char_class(int depth) {
    if (depth > kMaxDepth) return refuse("classes nested too deep");
    ++at_;
    const bool negative = eat("^");
    std::vector<CodePointSet::Range> ranges;
    std::vector<CodePointSet> factors;  // of &&
    for (bool first = true;; first = false) {
      if (done()) return refuse("a '[' without its ']'");
      if (peek() == ']' && !first) break;
      if (eat("&&")) {
        factors.emplace_back(std::exchange(ranges, {}));
        continue;
      }
      QUERN_TRY(const CodePointSet item, class_item(depth));
      ranges.insert(ranges.end(), item.ranges().begin(), item.ranges().end());
    }
    ++at_;
    CodePointSet all(std::move(ranges));
    for (const CodePointSet& factor : factors) all = all.intersected(factor);
    return negative ? all.negated() : all;
  }

  Result<CodePointSet> class_item(int depth) {
    if (peek() == '[') {
      if (peek(1) == ':') return refuse("POSIX classes are not built here");
      return char_class(depth + 1);
    }
    char32_t first = 0;
    if (peek() == '\\') {
      const char next = peek(1);
      if (std::string_view("pPsSdDwW").find(next) != std::string_view::npos && next != '\0') return escape();
      ++at_;
      if (done()) return refuse("a backslash at the end");
      QUERN_TRY(first, escaped_character());
    } else {
      QUERN_TRY(first, literal());
    }
    if (peek() != '-' || peek(1) == ']' || peek(1) == '\0') return cased(first, first);
    ++at_;
    char32_t last = 0;
    if (peek() == '\\') {
      ++at_;
      if (done()) return refuse("a backslash at the end");
      QUERN_TRY(last, escaped_character());
    } else {
      QUERN_TRY(last, literal());
    }
    if (last < first) return refuse("a range that runs backwards");
    return cased(first, last);
  }

  CodePointSet cased(char32_t first, char32_t last) const {
    std::vector<CodePointSet::Range> ranges = {{first, last}};
    // Long ranges hold both cases, or none.
    for (char32_t cp = first; ignore_case_ && cp <= last && cp - first < 256; ++cp) {
      const CodePointSet both = with_other_case(cp);
      ranges.insert(ranges.end(), both.ranges().begin(), both.ranges().end());
    }
    return CodePointSet(std::move(ranges));
  }

  std::string_view text_;
  size_t at_ = 0;
  bool ignore_case_ = false;
  RegexTree tree_;
};

}  // namespace

Result<RegexTree> parse_regex(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    return make_error(ErrorCode::unsupported, "regex: {} bytes, at most {}", pattern.size(), kMaxPatternBytes);
  return Parser(pattern).run();
}

}  // namespace quern
