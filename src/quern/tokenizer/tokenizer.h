// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/chat/segment.h"
#include "quern/gguf/file.h"

namespace quern {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special = false;    ///< BOS and EOS as the vocabulary asks for
  bool parse_special = false;  ///< recognise control tokens in the text
};

/// Text to ids and back. Immutable; all members may be called from several threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// tokenizer.ggml.* of a GGUF file. An unknown model or pre-tokenizer is refused by its name.
  static Result<std::unique_ptr<Tokenizer>> from_gguf(const gguf::File& file);
  /// A published tokenizer.json; `config` is tokenizer_config.json beside it where there is one (BOS and EOS,
  /// add_bos_token).
  static Result<std::unique_ptr<Tokenizer>> from_json(const std::filesystem::path& tokenizer_json,
                                                      const std::optional<std::filesystem::path>& config);
  /// A .tiktoken vocabulary; `pre` names its split rule and special tokens ("o200k_harmony", "o200k_base",
  /// "cl100k_base", "qwen").
  static Result<std::unique_ptr<Tokenizer>> from_tiktoken(const std::filesystem::path& path, std::string_view pre);

  virtual int size() const = 0;  ///< ids are 0 .. size() - 1

  /// Time is linear in the text (times log of its longest piece). Broken UTF-8 is encoded byte by byte or as unknown.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const = 0;
  /// A rendered prompt: control tokens in template text are recognised, in user text never; nor are user-defined tokens
  /// there that frame messages (<|..|> and the like). Text is split as if it were one, whatever the segments. BOS is
  /// added once if the vocabulary asks for it and the text does not begin with it.
  virtual std::vector<TokenId> encode_prompt(std::span<const Segment> segments) const = 0;

  /// The bytes a token stands for in text: "" for control and unknown tokens (their name with `show_special`) and for
  /// ids that are none.
  virtual std::string_view piece(TokenId id, bool show_special = false) const = 0;

  /// Whole text of a sequence from its start (a dummy prefix space of SentencePiece vocabularies is dropped).
  std::string decode_from_start(std::span<const TokenId> ids) const;

  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  virtual bool adds_bos() const = 0;
  /// Ends a generation: EOS, end of turn, end of message (docs/tokenizers.md).
  virtual bool is_end(TokenId id) const = 0;
  virtual bool is_special(TokenId id) const = 0;
  /// The id of exactly this text as a token, control tokens included.
  virtual std::optional<TokenId> find(std::string_view text) const = 0;
  virtual std::string_view kind() const = 0;  ///< "byte-level BPE", "SentencePiece BPE", "unigram"
  virtual bool strips_first_space() const = 0;
};

/// Turns ids into text one at a time and never emits half a character: an incomplete tail is held back, bytes that can
/// never become a character are emitted as U+FFFD, one per maximal invalid part.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// The text that is whole now; valid until the next call.
  std::string_view push(TokenId id);
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_, text_;
};

}  // namespace quern
