// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "quern/tokenizer/added_tokens.h"
#include "quern/tokenizer/normalizer.h"
#include "quern/tokenizer/piece_encoder.h"
#include "quern/tokenizer/pretokenizer.h"
#include "quern/tokenizer/tokenizer.h"
#include "quern/tokenizer/vocab.h"

namespace quern {

/// All that distinguishes one tokenizer from another; what reads a file fills it in.
struct TokenizerParts {
  std::unique_ptr<Vocab> vocab;  ///< the encoder refers to it
  Normalizer normalizer;
  Pretokenizer pretokenizer;
  std::unique_ptr<PieceEncoder> encoder;
  std::string_view kind;
  bool adds_bos = false, adds_eos = false;
  bool strips_first_space = false;
};

/// added tokens | normalizer | added tokens of normalised text | pre-tokenizer | model, in this order.
class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts);

  int size() const override { return parts_.vocab->size(); }
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::vector<TokenId> encode_prompt(std::span<const Segment> segments) const override;
  std::string_view piece(TokenId id, bool show_special) const override;
  std::optional<TokenId> bos() const override { return parts_.vocab->bos(); }
  std::optional<TokenId> eos() const override { return parts_.vocab->eos(); }
  bool adds_bos() const override { return parts_.adds_bos && bos(); }
  bool is_end(TokenId id) const override { return parts_.vocab->is_end(id); }
  bool is_special(TokenId id) const override;
  std::optional<TokenId> find(std::string_view text) const override;
  std::string_view kind() const override { return parts_.kind; }
  bool strips_first_space() const override { return parts_.strips_first_space; }

 private:
  using Allowed = FunctionRef<bool(TokenId, Span)>;
  void encode_stretch(std::string_view text, bool first, Allowed allowed, EncodeScratch& scratch,
                      std::vector<TokenId>& out) const;
  void encode_text(std::string_view text, Allowed allowed, std::vector<TokenId>& out) const;

  TokenizerParts parts_;
  AddedTokens raw_, normalized_;
};

/// A token that frames messages by the look of it, whatever its type: <|..|> and its kin. User text must not become
/// one.
bool is_marker(std::string_view text);

}  // namespace quern
