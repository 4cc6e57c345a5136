// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/bpe_vocab.h"

namespace quern {
namespace {

constexpr size_t kMaxMergedBytes =
    1024;  // longer tokens are not built by merging: their cuts would cost their length squared
constexpr std::string_view kBlank = "\xE2\x96\x81";

std::string shortened(std::string_view text) {
  return text.size() <= 40 ? std::string(text) : std::string(text.substr(0, 40)) + "...";
}

}  // namespace

void set_byte_level_bytes(Vocab& vocab) {
  for (TokenId id = 0; id < vocab.size(); ++id) {
    Token& t = vocab[id];
    t.bytes = t.text;
    if (t.type == TokenType::byte) {
      if (const auto byte = byte_of_name(t.text)) t.bytes = std::string(1, static_cast<char>(*byte));
    } else if (!t.is_added()) {
      if (auto bytes = bytes_of_spelling(t.text)) t.bytes = *std::move(bytes);
    }
  }
}

void set_character_bytes(Vocab& vocab, Blanks blanks) {
  for (TokenId id = 0; id < vocab.size(); ++id) {
    Token& t = vocab[id];
    t.bytes = t.text;
    if (t.type == TokenType::byte) {
      if (const auto byte = byte_of_name(t.text)) t.bytes = std::string(1, static_cast<char>(*byte));
    } else if (!t.is_added() && blanks == Blanks::escaped) {
      for (size_t at = 0; (at = t.bytes.find(kBlank, at)) != std::string::npos; ++at)
        t.bytes.replace(at, kBlank.size(), " ");
    }
  }
}

TextIndex index_by_text(const Vocab& vocab) {
  TextIndex index(static_cast<size_t>(vocab.size()));
  for (TokenId id = 0; id < vocab.size(); ++id)
    if (vocab[id].type != TokenType::undefined) index.insert(vocab[id].text, id);
  return index;
}

std::array<TokenId, 256> byte_level_ids(const TextIndex& by_text) {
  std::array<TokenId, 256> ids;
  for (int b = 0; b < 256; ++b)
    ids[static_cast<size_t>(b)] = by_text.find(spelling_of_byte(static_cast<uint8_t>(b))).value_or(-1);
  return ids;
}

Status add_merge(MergeTable& table, const TextIndex& by_text, std::string_view left, std::string_view right,
                 size_t rank) {
  const auto l = by_text.find(left), r = by_text.find(right);
  std::string both(left);
  both += right;
  const auto result = by_text.find(both);
  if (!l || !r || !result)
    return make_error(ErrorCode::corrupt_data, "merge {}: expected tokens, found none for '{}'", rank,
                      shortened(!l   ? left
                                : !r ? right
                                     : std::string_view(both)));
  table.insert(*l, *r, {static_cast<uint32_t>(rank), *result});
  return {};
}

Status add_merge(MergeTable& table, const TextIndex& by_text, std::string_view line, size_t rank) {
  const size_t blank = line.find(' ', 1);
  if (blank == line.npos)
    return make_error(ErrorCode::corrupt_data, "merge {}: expected two tokens, found '{}'", rank, shortened(line));
  return add_merge(table, by_text, line.substr(0, blank), line.substr(blank + 1), rank);
}

MergeTable merges_by_rank(const Vocab& vocab) {
  MergeTable table(static_cast<size_t>(vocab.size()) * 4);
  for (TokenId id = 0; id < vocab.size(); ++id) {
    const Token& t = vocab[id];
    if (t.type != TokenType::normal || t.bytes.size() < 2 || t.bytes.size() > kMaxMergedBytes) continue;
    const std::string_view bytes = t.bytes;
    for (size_t at = 1; at < bytes.size(); ++at) {
      const auto left = vocab.find_ordinary(bytes.substr(0, at));
      if (!left) continue;
      if (const auto right = vocab.find_ordinary(bytes.substr(at)))
        table.insert(*left, *right, {static_cast<uint32_t>(id), id});
    }
  }
  return table;
}

}  // namespace quern
