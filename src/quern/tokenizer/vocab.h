// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/base/result.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// Numbers as in tokenizer.ggml.token_type.
enum class TokenType : uint8_t { undefined, normal, unknown, control, user_defined, unused, byte };
/// Of a number that a file has; one that means nothing is an ordinary token's.
TokenType token_type(int64_t number);

struct Token {
  std::string text;   ///< as the file spells it
  std::string bytes;  ///< what it stands for in text
  double score = 0;
  TokenType type = TokenType::undefined;  ///< undefined: no token has this id
  bool visible = false;                   ///< a control token that is part of the text all the same (gpt-oss channels)
  bool strip_left = false, strip_right = false, single_word = false;
  bool after_normalizer = false;  ///< looked for in normalised text (tokenizer.json, "normalized")

  /// Looked for in the text before it is split: control only where asked for.
  bool is_added() const {
    return type == TokenType::control || type == TokenType::unknown || type == TokenType::user_defined;
  }
  bool is_control() const { return type == TokenType::control || type == TokenType::unknown; }
};

/// A score as files may have it, made finite: sums of them must stay comparable.
double usable_score(double score);

/// string -> id, an open hash table; the keys belong to someone who stays where he is.
class TextIndex {
 public:
  explicit TextIndex(size_t expected = 0);
  bool insert(std::string_view key, TokenId id);  ///< the first one stays
  std::optional<TokenId> find(std::string_view key) const;

 private:
  struct Entry {
    std::string_view key;
    TokenId id = -1;
    uint32_t hash = 0;
  };
  std::vector<Entry> entries_;
  size_t size_ = 0;
};

/// How generation ends, from the file's own ids; missing ones are found by well-known texts.
struct SpecialIds {
  std::optional<TokenId> bos, eos, unknown;
  std::vector<TokenId> ends;  ///< further ids that end a generation (end of turn, of message, FIM separators)
};

/// Which tokens the well-known texts may change.
enum class EndTexts : uint8_t {
  all_tokens,    ///< GGUF: the types in files are often wrong; also the exceptions for gpt-oss
  added_tokens,  ///< tokenizer.json, .tiktoken: an ordinary token stays one
};

/// The well-known texts whose tokens are control tokens whatever the file says of them (EndTexts::all_tokens). Some are
/// in certain vocabularies only: `has` tells whether there is a token of a text.
std::vector<std::string_view> known_control_texts(FunctionRef<bool(std::string_view text)> has);

/// How ordinary tokens are looked up: by what they stand for, or by the file's spelling.
enum class LookUp : uint8_t { bytes, text };

/// The tokens of a vocabulary. Filled in, settled, given their bytes, indexed; immutable from then on.
class Vocab {
 public:
  /// Ids beyond what `n_tokens` entries can explain are refused before anything is allocated.
  static Result<Vocab> make(int64_t n_tokens, int64_t highest_id);

  int size() const { return static_cast<int>(tokens_.size()); }
  bool has(TokenId id) const { return id >= 0 && id < size(); }
  const Token& operator[](TokenId id) const { return tokens_[static_cast<size_t>(id)]; }
  Token& operator[](TokenId id) { return tokens_[static_cast<size_t>(id)]; }
  const std::vector<Token>& tokens() const { return tokens_; }

  /// Settles types by text and ends of generation (docs/tokenizers.md), drops ids out of range.
  void settle(SpecialIds ids, EndTexts which);
  void index(LookUp by);

  /// By what `index` was told.
  std::optional<TokenId> find_ordinary(std::string_view text) const { return ordinary_.find(text); }
  LookUp look_up() const { return look_up_; }
  std::optional<TokenId> find_added(std::string_view text) const { return added_.find(text); }
  std::optional<TokenId> bos() const { return ids_.bos; }
  std::optional<TokenId> eos() const { return ids_.eos; }
  std::optional<TokenId> unknown() const { return ids_.unknown; }
  bool is_end(TokenId id) const { return has(id) && is_end_[static_cast<size_t>(id)]; }

 private:
  void settle_ends(EndTexts which);

  std::vector<Token> tokens_;
  SpecialIds ids_;
  std::vector<bool> is_end_;
  TextIndex ordinary_, added_;
  LookUp look_up_ = LookUp::bytes;
};

/// GPT-2's printable spelling of bytes: the bytes of `text`, or nothing if a character of it is no byte's spelling.
std::optional<std::string> bytes_of_spelling(std::string_view text);
std::string spelling_of_byte(uint8_t byte);
/// The byte that a token named <0xXX> stands for.
std::optional<uint8_t> byte_of_name(std::string_view text);

}  // namespace quern
