// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
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

Unigram::Unigram(const Vocab& vocab, Options options) : vocab_(vocab), options_(options) {
  byte_ids_.fill(-1);
  double lowest = 0, highest = -std::numeric_limits<double>::infinity();
  for (TokenId id = 0; id < vocab.size(); ++id) {
    const Token& t = vocab[id];
    if (t.type == TokenType::byte) {
      if (const auto byte = byte_of_name(t.text); byte && byte_ids_[*byte] < 0) byte_ids_[*byte] = id;
    }
    if ((t.type != TokenType::normal && t.type != TokenType::user_defined) || t.text.empty() ||
        t.text.size() > kMaxPieceBytes)
      continue;
    pieces_.add(t.text, id);
    if (t.type != TokenType::normal) continue;
    lowest = std::min(lowest, t.score);
    highest = std::max(highest, t.score);
  }
  if (std::find(byte_ids_.begin(), byte_ids_.end(), -1) != byte_ids_.end()) options_.byte_fallback = false;
  unknown_score_ = lowest - kUnknownPenalty;
  if (std::isfinite(highest)) highest_score_ = highest;
  pieces_.build();
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
      const double sum = options_.sum == Sum::in_float ? static_cast<float>(base + score) : base + score;
      if (sum > b.score) b = {sum, id, static_cast<uint32_t>(length)};
    };
    bool single = false;
    pieces_.for_each_prefix(piece.substr(at), [&](size_t length, TokenId id) {
      const Token& t = vocab_[id];
      offer(length,
            t.type == TokenType::user_defined ? static_cast<double>(length) * highest_score_ - kUserDefinedMargin
                                              : t.score,
            id);
      single = single || length == character;
    });
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
    } else if (options_.byte_fallback) {
      for (size_t at = cuts[i].begin; at < cuts[i].end; ++at) out.push_back(byte_ids_[static_cast<uint8_t>(piece[at])]);
    } else if (vocab_.unknown() && !after_unknown) {  // neighbouring unknown characters are one token
      out.push_back(*vocab_.unknown());
    }
    after_unknown = unknown;
  }
}

}  // namespace quern
