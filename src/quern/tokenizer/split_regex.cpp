// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/split_regex.h"

#include <algorithm>
#include <map>
#include <utility>

#include "quern/base/utf8.h"
#include "quern/tokenizer/regex_syntax.h"

namespace quern {
namespace {

constexpr int kMaxProgram = 4000;
constexpr int kMaxSymbols = 250;
constexpr int kMaxStates = 3000;
constexpr int64_t kMaxWork = 20'000'000;       // closure steps during construction: well under a second
constexpr size_t kMaxWaste = size_t{1} << 24;  // characters read in vain: a tenth of a second
constexpr uint16_t kMatched = 0x8000;
constexpr uint16_t kDead = 0, kStart = 1;

struct Instruction {
  enum class Op : uint8_t { set, fork, ahead, match };
  Op op = Op::match;
  bool at_end = false;
  int set = -1;
  int next = -1;
  int other = -1;  // fork: the less preferred way
};

/// Compiles the tree from its end to its start: each piece knows where to go on.
class ProgramWriter {
 public:
  explicit ProgramWriter(const RegexTree& tree) : tree_(tree) { code_.push_back({}); }

  Result<int> write(int node_index, int next) {
    if (code_.size() > kMaxProgram) return make_error(ErrorCode::unsupported, "regex: more than {} steps", kMaxProgram);
    const RegexNode& node = tree_.nodes[node_index];
    switch (node.kind) {
      case RegexNode::Kind::empty:
        return next;
      case RegexNode::Kind::set:
        return add({.op = Instruction::Op::set, .set = node.set, .next = next});
      case RegexNode::Kind::ahead:
        return add({.op = Instruction::Op::ahead, .at_end = node.at_end, .set = node.set, .next = next});
      case RegexNode::Kind::concat:
        for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) {
          QUERN_TRY(next, write(*child, next));
        }
        return next;
      case RegexNode::Kind::choice: {
        int entry = -1;
        for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) {
          QUERN_TRY(const int branch, write(*child, next));
          entry = entry < 0 ? branch : add({.op = Instruction::Op::fork, .next = branch, .other = entry});
        }
        return entry;
      }
      case RegexNode::Kind::repeat:
        return repeat(node, next);
    }
    return next;
  }

  std::vector<Instruction> code_;

 private:
  int add(Instruction i) {
    code_.push_back(i);
    return static_cast<int>(code_.size()) - 1;
  }

  Result<int> repeat(const RegexNode& node, int next) {
    const int child = node.children[0];
    const auto fork = [&](int again, int leave) {
      return add({.op = Instruction::Op::fork, .next = node.lazy ? leave : again, .other = node.lazy ? again : leave});
    };
    int entry = next;
    if (node.max < 0) {
      entry = fork(-1, next);
      QUERN_TRY(const int body, write(child, entry));
      (node.lazy ? code_[entry].other : code_[entry].next) = body;
    } else {
      for (int i = node.min; i < node.max; ++i) {
        QUERN_TRY(const int body, write(child, entry));
        entry = fork(body, next);
      }
    }
    for (int i = 0; i < node.min; ++i) {
      QUERN_TRY(entry, write(child, entry));
    }
    return entry;
  }

  const RegexTree& tree_;
};

}  // namespace

class AutomatonBuilder {
 public:
  AutomatonBuilder(const RegexTree& tree, std::vector<Instruction> code, int entry)
      : tree_(tree), code_(std::move(code)), entry_(entry), seen_(code_.size(), 0), follows_(code_.size(), 0) {}

  Result<SplitRegex> build() {
    QUERN_TRY_STATUS(divide_alphabet());
    QUERN_TRY_STATUS(forward());
    backward();
    return std::move(out_);
  }

 private:
  using Op = Instruction::Op;

  /// Code points that belong to the same sets are one symbol.
  Status divide_alphabet() {
    std::vector<char32_t> cuts = {0, 0x10000, kNoCharacter};
    for (const CodePointSet& set : tree_.sets)
      for (const auto& [first, last] : set.ranges()) {
        cuts.push_back(first);
        if (last < kNoCharacter) cuts.push_back(last + 1);
      }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    std::map<std::vector<bool>, int> known;
    std::vector<size_t> position(tree_.sets.size(), 0);
    out_.basic_plane_.resize(0x10000);
    for (size_t c = 0; c < cuts.size(); ++c) {
      std::vector<bool> member(tree_.sets.size());
      for (size_t s = 0; s < tree_.sets.size(); ++s) {
        const auto& ranges = tree_.sets[s].ranges();
        while (position[s] < ranges.size() && ranges[position[s]].second < cuts[c]) ++position[s];
        member[s] = position[s] < ranges.size() && ranges[position[s]].first <= cuts[c];
      }
      const auto [entry, is_new] = known.emplace(std::move(member), static_cast<int>(known.size()));
      if (is_new) members_.push_back(entry->first);
      if (known.size() > kMaxSymbols) return make_error(ErrorCode::unsupported, "regex: too many different classes");
      const auto symbol = static_cast<uint8_t>(entry->second);
      const char32_t stop = c + 1 < cuts.size() ? cuts[c + 1] : kNoCharacter + 1;
      for (char32_t cp = cuts[c]; cp < std::min<char32_t>(stop, 0x10000); ++cp) out_.basic_plane_[cp] = symbol;
      if (cuts[c] >= 0x10000 && (out_.beyond_.empty() || out_.beyond_.back().second != symbol))
        out_.beyond_.emplace_back(cuts[c], symbol);
    }
    out_.n_symbols_ = static_cast<int>(known.size());
    return {};
  }

  /// Follows everything that consumes nothing, in order of preference, until a match. `symbol` < 0: the text ends here.
  /// Returns whether a match was reached; `successors` are the threads behind those that take the symbol.
  bool step(const std::vector<int>& threads, int symbol, std::vector<int>& successors) {
    successors.clear();
    ++round_;
    for (const int thread : threads) {
      stack_.assign(1, thread);
      while (!stack_.empty()) {
        const int pc = stack_.back();
        stack_.pop_back();
        if (seen_[pc] == round_) continue;
        seen_[pc] = round_;
        ++work_;
        const Instruction& i = code_[pc];
        switch (i.op) {
          case Op::match:
            return true;
          case Op::fork:
            stack_.push_back(i.other);
            stack_.push_back(i.next);
            break;
          case Op::ahead:
            if (symbol < 0 ? i.at_end : static_cast<bool>(members_[symbol][i.set])) stack_.push_back(i.next);
            break;
          case Op::set:
            if (symbol >= 0 && members_[symbol][i.set] && std::exchange(follows_[i.next], round_) != round_)
              successors.push_back(i.next);
            break;
        }
      }
    }
    return false;
  }

  Status forward() {
    std::map<std::vector<int>, uint16_t> states;
    std::vector<const std::vector<int>*> order;
    const auto number = [&](const std::vector<int>& threads) {
      const auto [entry, is_new] = states.emplace(threads, static_cast<uint16_t>(states.size()));
      if (is_new) order.push_back(&entry->first);
      return entry->second;
    };
    number({});        // kDead
    number({entry_});  // kStart
    std::vector<int> successors;
    for (size_t state = 0; state < order.size(); ++state) {
      for (int symbol = 0; symbol < out_.n_symbols_; ++symbol) {
        const bool matched = step(*order[state], symbol, successors);
        out_.next_.push_back(static_cast<uint16_t>(number(successors) | (matched ? kMatched : 0)));
      }
      out_.matches_at_end_.push_back(step(*order[state], -1, successors));
      if (order.size() > kMaxStates || work_ > kMaxWork)
        return make_error(ErrorCode::unsupported, "regex: its automaton is too large");
    }
    return {};
  }

  /// From which instructions a match can be reached, given the same for one symbol later.
  std::vector<bool> before(const std::vector<bool>& later, int symbol) {
    std::vector<bool> now(code_.size(), false);
    now[0] = true;                         // the match
    for (bool changed = true; changed;) {  // forks and look-aheads may point either way
      changed = false;
      for (size_t pc = 1; pc < code_.size(); ++pc) {
        if (now[pc]) continue;
        const Instruction& i = code_[pc];
        ++work_;
        if (i.op == Op::fork) now[pc] = now[i.next] || now[i.other];
        if (i.op == Op::ahead)
          now[pc] = (symbol < 0 ? i.at_end : static_cast<bool>(members_[symbol][i.set])) && now[i.next];
        if (i.op == Op::set) now[pc] = symbol >= 0 && members_[symbol][i.set] && later[i.next];
        if (now[pc]) changed = true;
      }
    }
    return now;
  }

  /// Only a help against slow texts: left out where it would be large.
  void backward() {
    std::map<std::vector<bool>, uint16_t> states;
    std::vector<const std::vector<bool>*> order;
    const auto number = [&](const std::vector<bool>& facts) {
      const auto [entry, is_new] = states.emplace(facts, static_cast<uint16_t>(states.size()));
      if (is_new) order.push_back(&entry->first);
      return entry->second;
    };
    number(before({}, -1));
    work_ = 0;
    for (size_t state = 0; state < order.size(); ++state) {
      out_.back_starts_.push_back((*order[state])[entry_]);
      for (int symbol = 0; symbol < out_.n_symbols_; ++symbol)
        out_.back_next_.push_back(number(before(*order[state], symbol)));
      if (order.size() > kMaxStates || work_ > kMaxWork) {
        out_.back_next_.clear();
        out_.back_starts_.clear();
        return;
      }
    }
  }

  const RegexTree& tree_;
  std::vector<Instruction> code_;
  int entry_;
  std::vector<std::vector<bool>> members_;  // [symbol][set]
  std::vector<uint64_t> seen_, follows_;    // the last round that met an instruction
  std::vector<int> stack_;
  uint64_t round_ = 0;
  int64_t work_ = 0;
  SplitRegex out_;
};

Result<SplitRegex> SplitRegex::compile(std::string_view pattern) {
  QUERN_TRY(const RegexTree tree, parse_regex(pattern));
  ProgramWriter writer(tree);
  QUERN_TRY(const int entry, writer.write(tree.root, 0));
  return AutomatonBuilder(tree, std::move(writer.code_), entry).build();
}

std::string escaped_regex(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

SplitRegex::Symbol SplitRegex::symbol_of(char32_t cp) const {
  if (cp < 0x10000) return basic_plane_[cp];
  const auto after =
      std::upper_bound(beyond_.begin(), beyond_.end(), cp, [](char32_t v, const auto& run) { return v < run.first; });
  return std::prev(after)->second;
}

SplitRegex::Symbol SplitRegex::next_symbol(std::string_view text, size_t at, size_t& length) const {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) {
    length = 1;
    return basic_plane_[byte];
  }
  const Utf8Step step = utf8_decode(text.substr(at));
  length = static_cast<size_t>(step.length);
  return symbol_of(step.valid ? step.code_point : kNoCharacter);
}

/// Marks every byte from `from` on at which a match can start.
bool SplitRegex::can_start_anywhere_later(std::string_view text, size_t from, std::vector<bool>& starts) const {
  if (back_next_.empty()) return false;
  std::vector<Symbol> symbols;
  std::vector<uint8_t> lengths;  // a character has at most four bytes
  for (size_t at = from; at < text.size();) {
    size_t length = 0;
    symbols.push_back(next_symbol(text, at, length));
    lengths.push_back(static_cast<uint8_t>(length));
    at += length;
  }
  starts.assign(text.size(), false);
  size_t at = text.size();
  uint16_t state = 0;
  for (size_t i = symbols.size(); i-- > 0;) {
    at -= lengths[i];
    state = back_next_[static_cast<size_t>(state) * n_symbols_ + symbols[i]];
    starts[at] = back_starts_[state];
  }
  return true;
}

std::vector<Span> SplitRegex::find_all(std::string_view text) const {
  std::vector<Span> matches;
  // Characters read beyond the match they led to, or for no match. A rule that keeps doing so gets help from a pass
  // backwards; if even that leaves waste (no published rule does) the rest of the text counts as unmatched.
  size_t wasted = 0;
  const size_t patience = 256 + text.size();
  std::vector<bool> starts;
  bool have_starts = false;
  for (size_t begin = 0; begin < text.size();) {
    size_t at = begin, end = begin, first_length = 0;
    if (!have_starts || starts[begin]) {
      uint16_t state = kStart;
      while (at < text.size() && state != kDead) {
        size_t length = 0;
        const uint16_t entry = next_[static_cast<size_t>(state) * n_symbols_ + next_symbol(text, at, length)];
        if (entry & kMatched) end = at;
        if (at == begin) first_length = length;
        at += length;
        state = entry & static_cast<uint16_t>(~kMatched);
      }
      if (state != kDead && matches_at_end_[state]) end = at;
      wasted += at - end;
    } else {
      next_symbol(text, begin, first_length);
    }
    if (end > begin) matches.push_back({begin, end});
    begin = end > begin ? end : begin + first_length;
    if (wasted > patience && !have_starts) have_starts = can_start_anywhere_later(text, begin, starts);
    if (wasted > kMaxWaste + 64 * patience) break;
  }
  return matches;
}

}  // namespace quern
