// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "quern/base/utf8.h"
#include "quern/tokenizer/piece_encoder.h"

namespace quern {
namespace {

constexpr size_t kMaxMergedBytes =
    1024;  // longer tokens are not built by merging: their cuts would cost their length squared
constexpr size_t kMaxUnusedBytes = 128;
constexpr int kMaxUnusedDepth = 64;

std::string_view first_character(std::string_view text) {
  return text.substr(0, static_cast<size_t>(utf8_decode(text).length));
}

}  // namespace

CharBpe::CharBpe(const Vocab& vocab, MergeTable merges, std::vector<std::string> extra_characters, Options options)
    : vocab_(vocab),
      merges_(std::move(merges)),
      extra_(std::move(extra_characters)),
      extra_index_(extra_.size()),
      options_(options) {
  for (size_t i = 0; i < extra_.size(); ++i) extra_index_.insert(extra_[i], static_cast<TokenId>(i));
  byte_ids_.fill(-1);
  for (TokenId id = 0; id < vocab_.size(); ++id) {
    const auto byte = byte_of_name(vocab_[id].text);
    if (byte && vocab_[id].type == TokenType::byte && byte_ids_[*byte] < 0) byte_ids_[*byte] = id;
  }
  all_bytes_ = std::find(byte_ids_.begin(), byte_ids_.end(), -1) == byte_ids_.end();
  for (int c = 0; c < 128; ++c) {
    const char character = static_cast<char>(c);
    ascii_[static_cast<size_t>(c)] = symbol_of(std::string_view(&character, 1));
  }
  if (options_.split_unused) find_unused_parts();
}

int32_t CharBpe::symbol_of(std::string_view character) const {
  if (const auto id = vocab_.find_ordinary(character)) return *id;
  if (const auto extra = extra_index_.find(character)) return vocab_.size() + *extra;
  return -1;
}

void CharBpe::start(std::string_view piece, std::vector<MergeSymbol>& symbols) const {
  symbols.clear();
  for (size_t at = 0; at < piece.size();) {
    const auto byte = static_cast<uint8_t>(piece[at]);
    if (byte < 0x80) {
      symbols.push_back({ascii_[byte], static_cast<uint32_t>(at)});
      ++at;
      continue;
    }
    const std::string_view character = first_character(piece.substr(at));
    symbols.push_back({symbol_of(character), static_cast<uint32_t>(at)});
    at += character.size();
  }
}

void CharBpe::encode(std::string_view piece, EncodeScratch& scratch, std::vector<TokenId>& out) const {
  if (options_.ignore_merges) {
    if (const auto id = vocab_.find_ordinary(piece)) return out.push_back(*id);
  }
  while (!piece.empty()) {
    // A symbol's place is 32 bits wide; larger pieces are cut.
    const std::string_view now = piece.substr(0, std::numeric_limits<uint32_t>::max() / 2);
    piece.remove_prefix(now.size());
    auto& symbols = scratch.symbols;
    start(now, symbols);
    merge_symbols(merges_, symbols, scratch.merge);
    bool after_unknown = false;
    for (const MergeSymbol& s : symbols) {
      const size_t before = out.size();
      if (s.id >= 0)
        append(s.id, 0, out);
      else
        append_bytes(first_character(now.substr(s.first)), out);
      const bool unknown = vocab_.unknown() && out.size() == before + 1 && out.back() == *vocab_.unknown();
      if (unknown && after_unknown && options_.fuse_unknown) out.pop_back();
      after_unknown = unknown;
    }
  }
}

void CharBpe::append(int32_t symbol, int depth, std::vector<TokenId>& out) const {
  if (symbol >= vocab_.size()) return append_bytes(extra_[static_cast<size_t>(symbol - vocab_.size())], out);
  if (vocab_[symbol].type == TokenType::unused && depth < kMaxUnusedDepth) {
    const auto parts =
        std::lower_bound(unused_parts_.begin(), unused_parts_.end(), std::pair{symbol, std::pair{-1, -1}});
    if (parts != unused_parts_.end() && parts->first == symbol) {
      append(parts->second.first, depth + 1, out);
      append(parts->second.second, depth + 1, out);
      return;
    }
  }
  out.push_back(symbol);
}

/// A character that is no token.
void CharBpe::append_bytes(std::string_view bytes, std::vector<TokenId>& out) const {
  if (options_.byte_fallback && all_bytes_) {
    for (const char c : bytes) out.push_back(byte_ids_[static_cast<uint8_t>(c)]);
  } else if (vocab_.unknown()) {
    out.push_back(*vocab_.unknown());
  }
}

/// The two symbols that each unused token would be merged from last.
void CharBpe::find_unused_parts() {
  std::vector<MergeSymbol> symbols;
  for (TokenId id = 0; id < vocab_.size(); ++id) {
    if (vocab_[id].type != TokenType::unused || vocab_[id].text.size() > kMaxUnusedBytes) continue;
    start(vocab_[id].text, symbols);
    while (symbols.size() > 2) {
      size_t best = symbols.size();
      const Merge* merge = nullptr;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const Merge* m = merges_.find(symbols[i].id, symbols[i + 1].id);
        if (m != nullptr && m->result != id && (merge == nullptr || m->rank < merge->rank)) best = i, merge = m;
      }
      if (merge == nullptr) break;
      symbols[best].id = merge->result;
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    if (symbols.size() == 2 && symbols[0].id >= 0 && symbols[1].id >= 0)
      unused_parts_.push_back({id, {symbols[0].id, symbols[1].id}});
  }
}

ScoreMerges merges_by_score(const Vocab& vocab) {
  ScoreMerges out;
  const auto built = [](const Token& t) {
    return (t.type == TokenType::normal || t.type == TokenType::unused || t.type == TokenType::user_defined) &&
           !t.text.empty() && t.text.size() <= kMaxMergedBytes;
  };
  std::vector<double> scores;
  TextIndex pieces(static_cast<size_t>(vocab.size()));
  for (TokenId id = 0; id < vocab.size(); ++id) {
    if (!built(vocab[id])) continue;
    scores.push_back(vocab[id].score);
    pieces.insert(vocab[id].text, id);
  }
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());

  // Characters that occur inside tokens only are symbols too: merging may begin with them.
  TextIndex extra;
  std::vector<std::string_view> extra_characters;
  const auto symbol = [&](std::string_view text) -> int32_t {
    if (const auto id = pieces.find(text)) return *id;
    if (first_character(text).size() != text.size()) return -1;
    if (extra.insert(text, static_cast<TokenId>(extra_characters.size()))) extra_characters.push_back(text);
    return vocab.size() + *extra.find(text);
  };
  out.merges = MergeTable(static_cast<size_t>(vocab.size()) * 4);
  for (TokenId id = 0; id < vocab.size(); ++id) {
    const std::string_view text = vocab[id].text;
    if (!built(vocab[id]) || pieces.find(text) != id) continue;
    const auto rank =
        std::lower_bound(scores.begin(), scores.end(), vocab[id].score, std::greater<>()) - scores.begin();
    for (size_t at = first_character(text).size(); at < text.size(); at += first_character(text.substr(at)).size()) {
      const int32_t left = symbol(text.substr(0, at)), right = symbol(text.substr(at));
      out.merges.insert(left, right, {static_cast<uint32_t>(rank), id});
    }
  }
  out.extra_characters.assign(extra_characters.begin(), extra_characters.end());
  return out;
}

}  // namespace quern
