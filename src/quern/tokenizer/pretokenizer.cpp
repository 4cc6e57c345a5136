// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/pretokenizer.h"

#include <algorithm>
#include <optional>

#include "quern/tokenizer/pre_rules.h"

namespace quern {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxRules = 32;  // published files have up to seven; each costs time to compile
constexpr size_t kMaxSignBytes = 16;

struct Piece {
  Span span;
  bool match;
};

/// Matches and the gaps between them, in order.
std::vector<Piece> cut(std::string_view text, const Pretokenizer::Rule& rule) {
  std::vector<Piece> pieces;
  size_t done = 0;
  for (const Span& m : rule.regex.find_all(text)) {
    if (m.begin > done) pieces.push_back({{done, m.begin}, rule.invert});
    pieces.push_back({m, !rule.invert});
    done = m.end;
  }
  if (done < text.size()) pieces.push_back({{done, text.size()}, rule.invert});
  return pieces;
}

/// Joins a piece to the one before where the behaviour says so.
std::vector<Piece> join(const std::vector<Piece>& pieces, SplitBehavior behavior) {
  std::vector<Piece> out;
  for (const Piece& piece : pieces) {
    bool joins = false;
    if (!out.empty()) {
      if (behavior == SplitBehavior::contiguous) joins = out.back().match == piece.match;
      if (behavior == SplitBehavior::merged_with_previous) joins = piece.match && !out.back().match;
      if (behavior == SplitBehavior::merged_with_next) joins = out.back().match && !piece.match;
    }
    if (!joins) {
      out.push_back(piece);
      continue;
    }
    out.back().span.end = piece.span.end;
    out.back().match = piece.match;
  }
  return out;
}

void apply(std::string_view text, const Pretokenizer::Rule& rule, size_t base, std::vector<Span>& out) {
  std::vector<Piece> pieces = cut(text, rule);
  if (rule.behavior == SplitBehavior::removed) {
    std::erase_if(pieces, [](const Piece& p) { return p.match; });
  } else if (rule.behavior != SplitBehavior::isolated) {
    pieces = join(pieces, rule.behavior);
  }
  for (const Piece& p : pieces) out.push_back({base + p.span.begin, base + p.span.end});
}

const std::string* text_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr && value->is_string() ? &value->string() : nullptr;
}

bool flag_of(const Json& json, std::string_view key, bool otherwise) {
  const Json* value = json.find(key);
  return value != nullptr && value->is_bool() ? value->boolean() : otherwise;
}

std::optional<SplitBehavior> behavior_of(const Json& json) {
  const std::string* name = text_of(json, "behavior");
  if (name == nullptr || *name == "Isolated") return SplitBehavior::isolated;
  if (*name == "Removed") return SplitBehavior::removed;
  if (*name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (*name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (*name == "Contiguous") return SplitBehavior::contiguous;
  return std::nullopt;
}

}  // namespace

void Pretokenizer::split(std::string_view text, bool first, FunctionRef<void(std::string_view)> piece) const {
  std::string changed;
  if (!before_.empty()) {
    changed = before_.apply(text, first);
    text = changed;
  }
  if (rules_.empty()) return text.empty() ? void() : piece(text);
  std::vector<Span> now = {{0, text.size()}}, next;
  for (const Rule& rule : rules_) {
    next.clear();
    for (const Span& s : now) apply(text.substr(s.begin, s.end - s.begin), rule, s.begin, next);
    now.swap(next);
  }
  for (const Span& s : now) piece(text.substr(s.begin, s.end - s.begin));
}

Result<Pretokenizer> Pretokenizer::from_patterns(std::span<const std::string_view> patterns) {
  Pretokenizer out;
  for (const std::string_view pattern : patterns) QUERN_TRY_STATUS(out.append_rule(pattern, SplitBehavior::isolated));
  return out;
}

Result<Pretokenizer> Pretokenizer::from_json(const Json* json) {
  Pretokenizer out;
  if (json != nullptr && !json->is_null()) QUERN_TRY_STATUS(out.append_json(*json, 0));
  return out;
}

Status Pretokenizer::append_rule(std::string_view pattern, SplitBehavior behavior, bool invert) {
  if (rules_.size() >= kMaxRules)
    return make_error(ErrorCode::unsupported, "pre-tokenizer: more than {} rules", kMaxRules);
  auto regex = SplitRegex::compile(pattern);
  if (!regex) return std::move(regex).error().in("pre-tokenizer");
  rules_.push_back({*std::move(regex), behavior, invert});
  return {};
}

Status Pretokenizer::append_json(const Json& json, int depth) {
  const std::string* type = text_of(json, "type");
  if (type == nullptr || depth > kMaxDepth)
    return make_error(ErrorCode::corrupt_data, "pre-tokenizer: expected an object with a type");
  if (*type == "Sequence") {
    const Json* steps = json.find("pretokenizers");
    if (steps == nullptr || !steps->is_array())
      return make_error(ErrorCode::corrupt_data, "pre-tokenizer: Sequence without pretokenizers");
    for (const Json& step : steps->array()) QUERN_TRY_STATUS(append_json(step, depth + 1));
    return {};
  }
  if (byte_level_)
    return make_error(ErrorCode::unsupported, "pre-tokenizer: '{}' after ByteLevel is not built here", *type);
  if (*type == "ByteLevel") return append_byte_level(json);
  if (*type == "Split") return append_split(json);
  if (*type == "Metaspace") return append_metaspace(json);
  if (*type == "Digits")
    return append_rule(flag_of(json, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", SplitBehavior::isolated);
  if (*type == "Punctuation") {
    const auto behavior = behavior_of(json);
    if (!behavior) return make_error(ErrorCode::corrupt_data, "pre-tokenizer: Punctuation: unknown behavior");
    return append_rule("[\\p{P}!-/:-@\\[-`{-~]", *behavior);
  }
  if (*type == "Whitespace") return append_rule("\\w+|[^\\w\\s]+", SplitBehavior::removed, true);
  if (*type == "WhitespaceSplit") return append_rule("\\s", SplitBehavior::removed);
  return make_error(ErrorCode::unsupported, "pre-tokenizer: type '{}' is not built here", *type);
}

Status Pretokenizer::append_byte_level(const Json& json) {
  if (flag_of(json, "add_prefix_space", true)) {
    if (!rules_.empty())
      return make_error(ErrorCode::unsupported,
                        "pre-tokenizer: ByteLevel with a prefix space after another split is not built here");
    before_.add_escape(" ", Normalizer::Prefix::always);
  }
  byte_level_ = true;
  if (flag_of(json, "use_regex", true)) return append_rule(kGpt2Pattern, SplitBehavior::isolated);
  return {};
}

Status Pretokenizer::append_split(const Json& json) {
  const auto behavior = behavior_of(json);
  const Json* pattern = json.find("pattern");
  if (!behavior || pattern == nullptr)
    return make_error(ErrorCode::corrupt_data, "pre-tokenizer: Split: expected a pattern and a known behavior");
  const bool invert = flag_of(json, "invert", false);
  if (const std::string* regex = text_of(*pattern, "Regex")) return append_rule(*regex, *behavior, invert);
  const std::string* literal = text_of(*pattern, "String");
  if (literal == nullptr)
    return make_error(ErrorCode::corrupt_data, "pre-tokenizer: Split: expected a String or Regex pattern");
  return append_rule(escaped_regex(*literal), *behavior, invert);
}

Status Pretokenizer::append_metaspace(const Json& json) {
  if (!rules_.empty())
    return make_error(ErrorCode::unsupported, "pre-tokenizer: Metaspace after another split is not built here");
  const std::string* given = text_of(json, "replacement");
  const std::string sign = given != nullptr ? *given : "\xE2\x96\x81";
  if (sign.empty() || sign.size() > kMaxSignBytes)
    return make_error(ErrorCode::corrupt_data, "pre-tokenizer: Metaspace: expected one character as replacement");
  using Prefix = Normalizer::Prefix;
  // Old files say add_prefix_space; new ones prepend_scheme.
  Prefix prefix = flag_of(json, "add_prefix_space", true) ? Prefix::always : Prefix::never;
  if (const std::string* scheme = text_of(json, "prepend_scheme"))
    prefix = *scheme == "never" ? Prefix::never : *scheme == "first" ? Prefix::first : Prefix::always;
  before_.add_escape(sign, prefix);
  if (!flag_of(json, "split", true)) return {};
  return append_rule(escaped_regex(sign), SplitBehavior::merged_with_next);
}

}  // namespace quern
