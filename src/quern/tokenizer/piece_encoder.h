// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/tokenizer/merges.h"
#include "quern/tokenizer/prefix_table.h"
#include "quern/tokenizer/vocab.h"

namespace quern {

/// Working memory of one call of encode.
struct EncodeScratch {
  MergeScratch merge;
  std::vector<MergeSymbol> symbols;
};

/// The model proper: a piece of text to ids. Immutable.
class PieceEncoder {
 public:
  virtual ~PieceEncoder() = default;
  virtual void encode(std::string_view piece, EncodeScratch& scratch, std::vector<TokenId>& out) const = 0;
};

/// BPE that begins with single bytes.
class ByteBpe final : public PieceEncoder {
 public:
  enum class WholePiece : uint8_t { merge, look_up_first };
  /// `byte_ids`: the token of each byte, -1 where the vocabulary has none: that byte then becomes `unknown`, or nothing
  /// (what the makers' libraries do where no unknown token is named).
  ByteBpe(const Vocab& vocab, std::array<TokenId, 256> byte_ids, MergeTable merges, WholePiece whole,
          std::optional<TokenId> unknown = std::nullopt);
  void encode(std::string_view piece, EncodeScratch& scratch, std::vector<TokenId>& out) const override;

 private:
  const Vocab& vocab_;
  std::array<TokenId, 256> byte_ids_;
  MergeTable merges_;
  WholePiece whole_;
  std::optional<TokenId> unknown_;
};

/// BPE that begins with characters; what is no token in the end falls back to byte tokens, or to the unknown one.
class CharBpe final : public PieceEncoder {
 public:
  struct Options {
    bool ignore_merges = false;
    bool byte_fallback = true;
    bool fuse_unknown = false;
    /// SentencePiece: a token typed unused is taken apart again.
    bool split_unused = false;
  };
  /// Symbols of `merges` are ids, and vocab.size() + i for the i-th of `extra_characters`, which are no tokens.
  CharBpe(const Vocab& vocab, MergeTable merges, std::vector<std::string> extra_characters, Options options);
  void encode(std::string_view piece, EncodeScratch& scratch, std::vector<TokenId>& out) const override;

 private:
  void start(std::string_view piece, std::vector<MergeSymbol>& symbols) const;
  int32_t symbol_of(std::string_view character) const;
  void append(int32_t symbol, int depth, std::vector<TokenId>& out) const;
  void append_bytes(std::string_view bytes, std::vector<TokenId>& out) const;
  void find_unused_parts();

  const Vocab& vocab_;
  MergeTable merges_;
  std::vector<std::string> extra_;
  TextIndex extra_index_;
  std::array<TokenId, 256> byte_ids_;
  bool all_bytes_ = true;
  Options options_;
  std::array<int32_t, 128> ascii_{};
  std::vector<std::pair<TokenId, std::pair<int32_t, int32_t>>> unused_parts_;  // sorted
};

/// Merges by score (SentencePiece BPE): every way to cut a token into two symbols, in order of the token's score.
struct ScoreMerges {
  MergeTable merges;
  std::vector<std::string> extra_characters;
};
ScoreMerges merges_by_score(const Vocab& vocab);

/// The most likely cut into pieces by their log-probabilities (SentencePiece unigram), by Viterbi.
class Unigram final : public PieceEncoder {
 public:
  /// In what the makers' library adds scores up; it decides between cuts that are equally likely.
  enum class Sum : uint8_t { in_float, in_double };
  struct Options {
    bool byte_fallback = false;
    Sum sum = Sum::in_float;
  };
  Unigram(const Vocab& vocab, Options options);
  void encode(std::string_view piece, EncodeScratch& scratch, std::vector<TokenId>& out) const override;

 private:
  const Vocab& vocab_;
  PrefixTable pieces_;
  std::array<TokenId, 256> byte_ids_;
  Options options_;
  double unknown_score_ = 0, highest_score_ = 0;
};

}  // namespace quern
