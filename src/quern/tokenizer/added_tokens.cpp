// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/added_tokens.h"

#include "quern/base/utf8.h"
#include "quern/tokenizer/code_points.h"

namespace quern {
namespace {

/// Where the white space before `at` (not before `from`) begins.
size_t white_space_before(std::string_view text, size_t from, size_t at) {
  while (at > from) {
    size_t start = at - 1;
    while (start > from && at - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    const Utf8Step step = utf8_decode(text.substr(start, at - start));
    if (!step.valid || static_cast<size_t>(step.length) != at - start || !is_white_space(step.code_point)) break;
    at = start;
  }
  return at;
}

size_t white_space_after(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Step step = utf8_decode(text.substr(at));
    if (!step.valid || !is_white_space(step.code_point)) break;
    at += static_cast<size_t>(step.length);
  }
  return at;
}

/// Neither neighbour of the span is part of a word.
bool stands_alone(std::string_view text, Span span) {
  if (span.end < text.size()) {
    const Utf8Step step = utf8_decode(text.substr(span.end));
    if (step.valid && is_word_character(step.code_point)) return false;
  }
  size_t start = span.begin;
  while (start > 0 && span.begin - start < 4) {
    --start;
    if ((static_cast<uint8_t>(text[start]) & 0xC0) != 0x80) break;
  }
  if (start == span.begin) return true;
  const Utf8Step step = utf8_decode(text.substr(start, span.begin - start));
  return !(step.valid && is_word_character(step.code_point));
}

}  // namespace

AddedTokens::AddedTokens(const Vocab& vocab, bool after_normalizer) : vocab_(&vocab) {
  for (TokenId id = 0; id < vocab.size(); ++id)
    if (vocab[id].is_added() && vocab[id].after_normalizer == after_normalizer) texts_.add(vocab[id].text, id);
  texts_.build();
}

std::optional<AddedTokens::Part> AddedTokens::match(std::string_view text, size_t at,
                                                    FunctionRef<bool(TokenId, Span)> allowed) const {
  std::optional<Part> best;
  texts_.for_each_prefix(text.substr(at), [&](size_t length, TokenId id) {
    const Span span{at, at + length};
    if (allowed(id, span) && (!(*vocab_)[id].single_word || stands_alone(text, span))) best = Part{span, id};
  });
  return best;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text,
                                                  FunctionRef<bool(TokenId, Span)> allowed) const {
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    if (!texts_.can_start(text[at])) {
      ++at;
      continue;
    }
    auto found = match(text, at, allowed);
    if (!found) {
      ++at;
      continue;
    }
    const Token& token = (*vocab_)[found->id];
    if (token.strip_left) found->span.begin = white_space_before(text, done, at);
    if (token.strip_right) found->span.end = white_space_after(text, found->span.end);
    if (found->span.begin > done) parts.push_back({{done, found->span.begin}, -1});
    at = done = found->span.end;
    parts.push_back(*found);
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, -1});
  return parts;
}

}  // namespace quern
