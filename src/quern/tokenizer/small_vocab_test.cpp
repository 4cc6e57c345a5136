// SPDX-License-Identifier: Apache-2.0
// Small vocabularies of every kind against the libraries of their makers (tools/tokenizer_cases.py).
#include <gtest/gtest.h>

#include "quern/gguf/writer.h"
#include "quern/io/mapped_file.h"
#include "quern/tokenizer/base64.h"
#include "quern/tokenizer/tokenizer_cases.h"
#include "quern/tokenizer/tokenizer_json.h"

namespace quern {
namespace {

using Loaded = std::unique_ptr<Tokenizer>;

template <typename T, typename Of>
std::vector<T> list(const Json& json, std::string_view key, Of of) {
  std::vector<T> out;
  for (const Json& item : json.find(key)->array()) out.push_back(static_cast<T>(of(item)));
  return out;
}

/// A GGUF vocabulary with the pieces of a sentencepiece model.
Loaded from_pieces(const Json& json) {
  const auto tokens = list<std::string>(json, "tokens", [](const Json& j) { return j.string(); });
  const auto scores = list<float>(json, "scores", [](const Json& j) { return j.number(); });
  const auto types = list<int32_t>(json, "types", [](const Json& j) { return j.integer(); });
  gguf::Writer writer;
  writer.set("tokenizer.ggml.model", json.find("model")->string());
  writer.set("tokenizer.ggml.tokens", std::span(tokens));
  writer.set("tokenizer.ggml.scores", std::span(scores));
  writer.set("tokenizer.ggml.token_type", std::span(types));
  writer.set("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(json.find("unknown")->integer()));
  if (const auto charsmap = base64_decode(json.find("charsmap")->string()); charsmap && !charsmap->empty()) {
    std::vector<int32_t> bytes;
    for (const char c : *charsmap) bytes.push_back(static_cast<uint8_t>(c));
    writer.set("tokenizer.ggml.precompiled_charsmap", std::span(std::as_const(bytes)));
  }
  const auto bytes = writer.bytes();
  EXPECT_TRUE(bytes.has_value());
  const auto file = gguf::File::parse(*bytes);
  EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
  auto tokenizer = Tokenizer::from_gguf(*file);
  EXPECT_TRUE(tokenizer.has_value()) << (tokenizer ? "" : tokenizer.error().message);
  return tokenizer ? *std::move(tokenizer) : nullptr;
}

class SmallVocab : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto folder = tokenizer_test_data();
    const auto text = read_text_file(folder / (std::string(GetParam()) + ".json"));
    const auto rows = read_text_file(folder / (std::string(GetParam()) + ".jsonl"));
    ASSERT_TRUE(text.has_value() && rows.has_value());
    rows_ = json_lines(*rows);
    ASSERT_GT(rows_.size(), 200u);
    const auto json = Json::parse(*text);
    ASSERT_TRUE(json.has_value());
    if (json->find("types") != nullptr) {
      tokenizer_ = from_pieces(*json);
    } else {
      auto tokenizer = tokenizer_from_json_text(*text, nullptr);
      ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
      tokenizer_ = *std::move(tokenizer);
    }
    ASSERT_NE(tokenizer_, nullptr);
  }
  std::vector<Json> rows_;
  Loaded tokenizer_;
};

TEST_P(SmallVocab, ids_equal_the_makers_library) {
  for (const Json& row : rows_) {
    const std::string& text = row.find("text")->string();
    EXPECT_EQ(tokenizer_->encode(text, {}), ids_in(row, "ids")) << json_quote(text);
  }
}

TEST_P(SmallVocab, special_tokens_too) {
  const bool never_parsed = std::string_view(GetParam()).starts_with("spm");  // the library has no such mode
  for (const Json& row : rows_) {
    const std::string& text = row.find("text")->string();
    if (never_parsed && text.find('<') != text.npos) continue;
    const auto want = ids_in(row, row.find("ids_special") != nullptr ? "ids_special" : "ids");
    EXPECT_EQ(tokenizer_->encode(text, {.parse_special = true}), want) << json_quote(text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SmallVocab,
                         testing::Values("byte_bpe", "byte_bpe_prefix", "llama_bpe", "metaspace_bpe", "split_bpe",
                                         "whitespace_bpe", "unigram", "spm_bpe", "spm_unigram"));

}  // namespace
}  // namespace quern
