// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <utility>

#include "quern/io/mapped_file.h"
#include "quern/tokenizer/base64.h"
#include "quern/tokenizer/bpe_vocab.h"
#include "quern/tokenizer/pipeline.h"
#include "quern/tokenizer/pre_rules.h"
#include "quern/tokenizer/tokenizer_json.h"

namespace quern {
namespace {

using Named = std::pair<TokenId, std::string>;

/// Special tokens stand in no .tiktoken file: the makers' code names them.
struct SpecialTokens {
  std::vector<Named> tokens;
  SpecialIds ids;
  bool nfc = false;
};

SpecialTokens harmony() {
  SpecialTokens s;
  s.tokens = {{199998, "<|startoftext|>"}, {199999, "<|endoftext|>"}, {200002, "<|return|>"},
              {200003, "<|constrain|>"},   {200005, "<|channel|>"},   {200006, "<|start|>"},
              {200007, "<|end|>"},         {200008, "<|message|>"},   {200012, "<|call|>"}};
  for (TokenId id = 200000; id <= 201087; ++id) {
    const bool named = id == 200002 || id == 200003 || (id >= 200005 && id <= 200008) || id == 200012;
    if (!named) s.tokens.emplace_back(id, fmt::format("<|reserved_{}|>", id));
  }
  s.ids.bos = 199998;
  s.ids.eos = 200002;
  return s;
}

SpecialTokens qwen(TokenId first) {
  SpecialTokens s;
  s.tokens = {{first, "<|endoftext|>"}, {first + 1, "<|im_start|>"}, {first + 2, "<|im_end|>"}};
  for (int i = 0; i <= 204; ++i) s.tokens.emplace_back(first + 3 + i, fmt::format("<|extra_{}|>", i));
  s.ids.eos = first;
  s.nfc = true;
  return s;
}

SpecialTokens special_tokens(std::string_view pre, TokenId first_free) {
  if (pre == "o200k_harmony") return harmony();
  if (pre == "qwen") return qwen(first_free);
  SpecialTokens s;
  if (pre == "o200k_base") s.tokens = {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}};
  if (pre == "cl100k_base")
    s.tokens = {{100257, "<|endoftext|>"},
                {100258, "<|fim_prefix|>"},
                {100259, "<|fim_middle|>"},
                {100260, "<|fim_suffix|>"},
                {100276, "<|endofprompt|>"}};
  if (pre == "r50k_base" || pre == "gpt2" || pre == "p50k_base") s.tokens = {{50256, "<|endoftext|>"}};
  if (!s.tokens.empty()) s.ids.eos = s.tokens.front().first;
  return s;
}

struct Ranked {
  std::string bytes;
  TokenId id;
};

Result<std::vector<Ranked>> read_ranks(std::string_view text) {
  std::vector<Ranked> out;
  for (size_t line_number = 1; !text.empty(); ++line_number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t blank = line.find(' ');
    const auto bytes = base64_decode(line.substr(0, blank));
    const std::string_view number = blank == line.npos ? std::string_view() : line.substr(blank + 1);
    TokenId id = -1;
    const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), id);
    if (!bytes || bytes->empty() || error != std::errc() || stop != number.data() + number.size() || id < 0)
      return make_error(ErrorCode::corrupt_data, "line {}: expected base64, a blank and a rank", line_number);
    out.push_back({*bytes, id});
  }
  return out;
}

Status put(Vocab& vocab, TokenId id, std::string text, TokenType type) {
  Token& t = vocab[id];
  if (t.type != TokenType::undefined) return make_error(ErrorCode::corrupt_data, "rank {}: stands twice", id);
  t.text = t.bytes = std::move(text);
  t.type = type;
  return {};
}

Result<TokenizerParts> tiktoken_parts(std::string_view text, std::string_view pre) {
  const PreRule* rule = find_pre_rule(pre);
  if (rule == nullptr) return make_error(ErrorCode::invalid_argument, "split rule '{}' is not known", pre);
  QUERN_TRY(const std::vector<Ranked> ranks, read_ranks(text));
  TokenId highest = -1;
  for (const Ranked& r : ranks) highest = std::max(highest, r.id);
  QUERN_TRY_STATUS(Vocab::make(static_cast<int64_t>(ranks.size()), highest));  // before more ids are counted from there
  const SpecialTokens special = special_tokens(pre, highest + 1);
  for (const auto& [id, name] : special.tokens) highest = std::max(highest, id);

  TokenizerParts parts;
  QUERN_TRY(Vocab vocab, Vocab::make(static_cast<int64_t>(ranks.size() + special.tokens.size()), highest));
  parts.vocab = std::make_unique<Vocab>(std::move(vocab));
  for (const Ranked& r : ranks) QUERN_TRY_STATUS(put(*parts.vocab, r.id, r.bytes, TokenType::normal));
  for (const auto& [id, name] : special.tokens) QUERN_TRY_STATUS(put(*parts.vocab, id, name, TokenType::control));
  parts.vocab->settle(special.ids, EndTexts::added_tokens);
  parts.vocab->index(LookUp::bytes);

  std::array<TokenId, 256> byte_ids;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    byte_ids[static_cast<size_t>(b)] = parts.vocab->find_ordinary(std::string_view(&byte, 1)).value_or(-1);
    if (byte_ids[static_cast<size_t>(b)] < 0)
      return make_error(ErrorCode::corrupt_data, "expected a token for every byte, found none for {:#04x}", b);
  }
  QUERN_TRY(parts.pretokenizer, Pretokenizer::from_patterns(rule->patterns));
  if (special.nfc) parts.normalizer.add_form(UnicodeForm::nfc);
  parts.encoder = std::make_unique<ByteBpe>(*parts.vocab, byte_ids, merges_by_rank(*parts.vocab),
                                            ByteBpe::WholePiece::look_up_first);
  parts.kind = "byte-level BPE";
  return parts;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> tokenizer_from_tiktoken_text(std::string_view text, std::string_view pre) {
  QUERN_TRY(TokenizerParts parts, tiktoken_parts(text, pre));
  return std::unique_ptr<Tokenizer>(std::make_unique<PipelineTokenizer>(std::move(parts)));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_tiktoken(const std::filesystem::path& path, std::string_view pre) {
  QUERN_TRY(const std::string text, read_text_file(path));
  auto tokenizer = tokenizer_from_tiktoken_text(text, pre);
  if (!tokenizer) return std::move(tokenizer).error().in(path.string());
  return tokenizer;
}

}  // namespace quern
