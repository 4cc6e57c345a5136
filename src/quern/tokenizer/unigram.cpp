// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "quern/base/utf8.h"
#include "quern/tokenizer/piece_encoder.h"
#include "quern/tokenizer/split_regex.h"

namespace quern {
namespace {

// Constants of sentencepiece's unigram model.
constexpr double kUnknownPenalty = 10.0;
constexpr double kUserDefinedMargin = 0.1;
constexpr size_t kMaxPieceBytes = 256;  // longer pieces would make the search slow for a text that repeats them

struct Best {
  double score = -std::numeric_limits<double>::infinity();
  TokenId id = -1;  // -1: an unknown character
  uint32_t length = 0;
};

}  // namespace

Unigram::Unigram(const Vocab& vocab, bool byte_fallback) : vocab_(vocab), byte_fallback_(byte_fallback) {
  byte_ids_.fill(-1);
  double lowest = 0;
  for (TokenId id = 0; id < vocab.size(); ++id) {
    const Token& t = vocab[id];
    if (t.type == TokenType::byte) {
      if (const auto byte = byte_of_name(t.text); byte && byte_ids_[*byte] < 0) byte_ids_[*byte] = id;
    }
    if ((t.type != TokenType::normal && t.type != TokenType::user_defined) || t.text.empty() ||
        t.text.size() > kMaxPieceBytes)
      continue;
    sorted_.emplace_back(t.text, id);
    if (t.type != TokenType::normal) continue;
    lowest = std::min(lowest, static_cast<double>(t.score));
    highest_score_ = sorted_.size() == 1 ? t.score : std::max(highest_score_, static_cast<double>(t.score));
  }
  if (std::find(byte_ids_.begin(), byte_ids_.end(), -1) != byte_ids_.end()) byte_fallback_ = false;
  unknown_score_ = lowest - kUnknownPenalty;
  std::sort(sorted_.begin(), sorted_.end());
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  sorted_.erase(std::unique(sorted_.begin(), sorted_.end(), same), sorted_.end());
  for (uint32_t i = 0; i < sorted_.size(); ++i) {
    auto& [begin, end] = by_first_byte_[static_cast<uint8_t>(sorted_[i].first[0])];
    if (begin == end) begin = i;
    end = i + 1;
  }
}

void Unigram::encode(std::string_view piece, EncodeScratch&, std::vector<TokenId>& out) const {
  if (piece.size() >= std::numeric_limits<uint32_t>::max()) {  // lengths are 32 bits wide
    piece = piece.substr(0, std::numeric_limits<uint32_t>::max() - 1);
  }
  std::vector<Best> best(piece.size() + 1);  // of the text that ends here
  best[0].score = 0;
  for (size_t at = 0; at < piece.size();) {
    const auto character = static_cast<size_t>(utf8_decode(piece.substr(at)).length);
    const double base = best[at].score;
    const auto offer = [&](size_t length, double score, TokenId id) {
      Best& b = best[at + length];
      if (base + score > b.score) b = {base + score, id, static_cast<uint32_t>(length)};
    };
    bool single = false;
    auto [low, high] = by_first_byte_[static_cast<uint8_t>(piece[at])];
    for (size_t length = 1; low < high; ++length) {  // the pieces that begin with these `length` bytes
      if (sorted_[low].first.size() == length) {
        const Token& t = vocab_[sorted_[low].second];
        const double score = t.type == TokenType::user_defined
                                 ? static_cast<double>(length) * highest_score_ - kUserDefinedMargin
                                 : static_cast<double>(t.score);
        offer(length, score, sorted_[low].second);
        single = single || length == character;
        ++low;
      }
      if (at + length >= piece.size()) break;
      const char next = piece[at + length];
      const auto begin = sorted_.begin();
      const auto range = std::equal_range(begin + low, begin + high, next, [length](const auto& a, const auto& b) {
        constexpr bool entry_first = !std::is_same_v<std::decay_t<decltype(a)>, char>;
        if constexpr (entry_first)
          return static_cast<uint8_t>(a.first[length]) < static_cast<uint8_t>(b);
        else
          return static_cast<uint8_t>(a) < static_cast<uint8_t>(b.first[length]);
      });
      low = static_cast<uint32_t>(range.first - begin);
      high = static_cast<uint32_t>(range.second - begin);
    }
    if (!single) offer(character, unknown_score_, -1);
    at += character;
  }

  std::vector<Span> cuts;
  std::vector<TokenId> ids;
  for (size_t end = piece.size(); end > 0; end -= best[end].length) {
    cuts.push_back({end - best[end].length, end});
    ids.push_back(best[end].id);
  }
  bool after_unknown = false;
  for (size_t i = cuts.size(); i-- > 0;) {
    const bool unknown = ids[i] < 0;
    if (!unknown) {
      out.push_back(ids[i]);
    } else if (byte_fallback_) {
      for (size_t at = cuts[i].begin; at < cuts[i].end; ++at) out.push_back(byte_ids_[static_cast<uint8_t>(piece[at])]);
    } else if (vocab_.unknown() && !after_unknown) {  // neighbouring unknown characters are one token
      out.push_back(*vocab_.unknown());
    }
    after_unknown = unknown;
  }
}

}  // namespace quern
