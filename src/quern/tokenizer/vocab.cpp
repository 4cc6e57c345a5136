// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/vocab.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <functional>
#include <iterator>

#include "quern/base/utf8.h"

namespace quern {
namespace {

// Texts that end a generation whatever the file says of them.
constexpr std::string_view kEndTexts[] = {"<|eot_id|>",
                                          "<|im_end|>",
                                          "<|end|>",
                                          "<|return|>",
                                          "<|call|>",
                                          "<|flush|>",
                                          "<|calls|>",
                                          "<end_of_turn>",
                                          "<|endoftext|>",
                                          "</s>",
                                          "<|eom_id|>",
                                          "<EOT>",
                                          "_<EOT>",
                                          "[EOT]",
                                          "[EOS]",
                                          "<|end_of_text|>",
                                          "<end_of_utterance>",
                                          "<eos>",
                                          "<turn|>",
                                          "<|tool_response>",
                                          "<｜end▁of▁sentence｜>",
                                          "<|eom|>",
                                          "<|eot|>",
                                          "[e~[",
                                          "<|role_end|>",
                                          "<|end_of_msg|>",
                                          "<|observation|>"};

// Code models: another file begins, or padding. They end an answer but stay what the file says.
constexpr std::string_view kFillTexts[] = {"<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"};

// gpt-oss: these frame a message, its text goes on (GGUF files; libllama's rule).
constexpr std::string_view kHarmonyVisible[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<|end|>"};

using Has = FunctionRef<bool(std::string_view)>;

bool is_harmony(Has has) { return has("<|return|>") && has("<|call|>"); }

/// GLM: the next role ends the turn.
constexpr std::string_view kGlmUser = "<|user|>";
bool is_glm(Has has) { return has("[gMASK]"); }

/// Byte -> code point of GPT-2's table: printable bytes are themselves, the others follow from U+0100 on.
constexpr std::array<char32_t, 256> kSpelling = [] {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    table[static_cast<size_t>(b)] = printable ? static_cast<char32_t>(b) : next++;
  }
  return table;
}();

constexpr std::array<int16_t, 0x144> kByteOfSpelling = [] {
  std::array<int16_t, 0x144> table{};
  for (auto& v : table) v = -1;
  for (int b = 0; b < 256; ++b) table[kSpelling[static_cast<size_t>(b)]] = static_cast<int16_t>(b);
  return table;
}();

}  // namespace

TokenType token_type(int64_t number) {
  return number >= 1 && number <= 6 ? static_cast<TokenType>(number) : TokenType::normal;
}

std::vector<std::string_view> known_control_texts(Has has) {
  std::vector<std::string_view> out(std::begin(kEndTexts), std::end(kEndTexts));
  if (is_glm(has)) out.push_back(kGlmUser);
  if (is_harmony(has)) out.insert(out.end(), std::begin(kHarmonyVisible), std::end(kHarmonyVisible));
  return out;
}

double usable_score(double score) {
  constexpr double kLimit = 1e9;
  return score > -kLimit ? std::min(score, kLimit) : -kLimit;  // NaN too
}

TextIndex::TextIndex(size_t expected) : entries_(std::bit_ceil(std::max<size_t>(16, 2 * expected))) {}

bool TextIndex::insert(std::string_view key, TokenId id) {
  if (2 * (size_ + 1) > entries_.size()) {
    TextIndex larger(entries_.size());
    for (const Entry& e : entries_)
      if (e.id >= 0) larger.insert(e.key, e.id);
    *this = std::move(larger);
  }
  const auto hash = static_cast<uint32_t>(std::hash<std::string_view>()(key));
  const size_t mask = entries_.size() - 1;
  size_t at = hash & mask;
  for (; entries_[at].id >= 0; at = (at + 1) & mask)
    if (entries_[at].hash == hash && entries_[at].key == key) return false;
  entries_[at] = {key, id, hash};
  ++size_;
  return true;
}

std::optional<TokenId> TextIndex::find(std::string_view key) const {
  const auto hash = static_cast<uint32_t>(std::hash<std::string_view>()(key));
  const size_t mask = entries_.size() - 1;
  for (size_t at = hash & mask; entries_[at].id >= 0; at = (at + 1) & mask)
    if (entries_[at].hash == hash && entries_[at].key == key) return entries_[at].id;
  return std::nullopt;
}

Result<Vocab> Vocab::make(int64_t n_tokens, int64_t highest_id) {
  // Published vocabularies have few gaps; a handful of entries must not claim gigabytes.
  const int64_t most = std::min<int64_t>(4 * n_tokens + 262144, int64_t{1} << 26);
  if (n_tokens == 0 || highest_id < 0)
    return make_error(ErrorCode::corrupt_data, "vocabulary: expected tokens, found none");
  if (highest_id >= most)
    return make_error(ErrorCode::corrupt_data, "vocabulary: id {} with {} tokens, expected ids below {}", highest_id,
                      n_tokens, most);
  Vocab vocab;
  vocab.tokens_.resize(static_cast<size_t>(highest_id + 1));
  return vocab;
}

void Vocab::settle(SpecialIds ids, EndTexts which) {
  ids_ = std::move(ids);
  for (auto* id : {&ids_.bos, &ids_.eos, &ids_.unknown})
    if (*id && !has(**id)) id->reset();
  is_end_.assign(tokens_.size(), false);
  if (ids_.eos) is_end_[static_cast<size_t>(*ids_.eos)] = true;
  for (const TokenId id : ids_.ends)
    if (has(id)) is_end_[static_cast<size_t>(id)] = true;
  settle_ends(which);
}

void Vocab::index(LookUp by) {
  look_up_ = by;
  ordinary_ = TextIndex(tokens_.size());
  added_ = TextIndex();
  for (TokenId id = 0; id < size(); ++id) {
    const Token& t = tokens_[static_cast<size_t>(id)];
    if (t.is_added()) {
      if (!t.text.empty()) added_.insert(t.text, id);
    } else if (t.type == TokenType::normal) {
      ordinary_.insert(by == LookUp::bytes ? t.bytes : t.text, id);
    }
  }
}

void Vocab::settle_ends(EndTexts which) {
  TextIndex by_text(tokens_.size());
  for (TokenId id = 0; id < size(); ++id) {
    const Token& t = tokens_[static_cast<size_t>(id)];
    if (t.is_added() || which == EndTexts::all_tokens) by_text.insert(t.text, id);
  }
  const auto has = [&](std::string_view text) { return by_text.find(text).has_value(); };
  const auto mark = [&](std::string_view text) {
    const auto id = by_text.find(text);
    if (!id) return;
    is_end_[static_cast<size_t>(*id)] = true;
    Token& t = tokens_[static_cast<size_t>(*id)];
    if (!t.is_control()) t.type = TokenType::control;
  };
  for (const std::string_view text : kEndTexts) mark(text);
  for (const std::string_view text : kFillTexts)
    if (const auto id = by_text.find(text)) is_end_[static_cast<size_t>(*id)] = true;
  if (is_glm(has)) mark(kGlmUser);
  if (is_harmony(has)) {
    if (const auto end = by_text.find("<|end|>")) is_end_[static_cast<size_t>(*end)] = false;
    for (const std::string_view text : kHarmonyVisible)
      if (const auto id = by_text.find(text); id && which == EndTexts::all_tokens) {
        // Visible, but not "user-defined": what a user types must not become one of them.
        tokens_[static_cast<size_t>(*id)].type = TokenType::control;
        tokens_[static_cast<size_t>(*id)].visible = true;
      }
  }
}

std::optional<std::string> bytes_of_spelling(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    if (!step.valid || step.code_point >= kByteOfSpelling.size() || kByteOfSpelling[step.code_point] < 0)
      return std::nullopt;
    bytes.push_back(static_cast<char>(kByteOfSpelling[step.code_point]));
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return bytes;
}

std::string spelling_of_byte(uint8_t byte) {
  std::string text;
  utf8_append(text, kSpelling[byte]);
  return text;
}

std::optional<uint8_t> byte_of_name(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return std::nullopt;
  uint8_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, value, 16);
  if (error != std::errc() || end != text.data() + 5) return std::nullopt;
  return value;
}

}  // namespace quern
