// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

#include "quern/base/result.h"
#include "quern/tokenizer/merges.h"
#include "quern/tokenizer/vocab.h"

namespace quern {

/// Sets what each token stands for, where files spell tokens byte by byte in GPT-2's table (added tokens as they are).
void set_byte_level_bytes(Vocab& vocab);
/// The same where blanks are spelled U+2581 and bytes <0xXX>.
enum class Blanks : uint8_t { escaped, plain };
void set_character_bytes(Vocab& vocab, Blanks blanks);

/// All tokens by the file's spelling. Keys belong to the vocabulary.
TextIndex index_by_text(const Vocab& vocab);
std::array<TokenId, 256> byte_level_ids(const TextIndex& by_text);

/// Merge number `rank`, of two texts that are tokens and make a third; else an error.
Status add_merge(MergeTable& table, const TextIndex& by_text, std::string_view left, std::string_view right,
                 size_t rank);
/// "left right", parted by the first blank that is not the first character.
Status add_merge(MergeTable& table, const TextIndex& by_text, std::string_view line, size_t rank);

/// Merges of a vocabulary by rank (tiktoken): every way to cut a token into two tokens, in the order of their ids.
MergeTable merges_by_rank(const Vocab& vocab);

}  // namespace quern
