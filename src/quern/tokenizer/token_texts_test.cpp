// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/token_texts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "quern/gguf/writer.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {
namespace {

/// A vocabulary of these tokens; types as numbers of the file.
std::vector<std::byte> gguf_of(const char* model, const std::vector<std::pair<std::string, int32_t>>& tokens) {
  std::vector<std::string> texts = {"a", "b", "ab"};
  std::vector<int32_t> types = {1, 1, 1};
  for (const auto& [text, type] : tokens) {
    texts.push_back(text);
    types.push_back(type);
  }
  const std::vector<float> scores(texts.size());
  const std::vector<std::string> merges = {"a b"};
  gguf::Writer writer;
  writer.set("tokenizer.ggml.model", model).set("tokenizer.ggml.pre", "gpt-2");
  writer.set("tokenizer.ggml.tokens", std::span(texts)).set("tokenizer.ggml.token_type", std::span(types));
  writer.set("tokenizer.ggml.scores", std::span(scores)).set("tokenizer.ggml.merges", std::span(merges));
  return *writer.bytes();
}

TEST(TokenTexts, are_those_that_a_tokenizer_of_the_file_finds) {
  const std::vector<std::vector<std::pair<std::string, int32_t>>> vocabularies = {
      {{"<|fim_prefix|>", 3}, {"<｜fim▁begin｜>", 3}, {"[PAD]", 5}, {"<0x41>", 6}, {"<x>", 4}, {"<unk>", 2}},
      // Types in files are often wrong.
      {{"<|im_end|>", 5}, {"<end_of_turn>", 5}, {"<|end|>", 5}, {"<|eot_id|>", 5}, {"</s>", 6}, {"<|user|>", 5}},
      {{"[gMASK]", 3}, {"<|user|>", 5}, {"<|start|>", 5}},
      {{"[gMASK]", 5}, {"<|user|>", 6}},
      {{"<|return|>", 3}, {"<|call|>", 3}, {"<|start|>", 5}, {"<|message|>", 5}, {"<|channel|>", 6}, {"[PAD]", 5}},
      {{"<|return|>", 5}, {"<|call|>", 5}, {"<|start|>", 5}},
      {{"<|return|>", 3}, {"<|start|>", 5}, {"<|fim_pad|>", 5}},
      {{"none", 0}, {"beyond", 7}, {"far", 256 + 5}, {"negative", -1}},
  };
  for (const char* model : {"gpt2", "llama"})
    for (const auto& tokens : vocabularies) {
      const auto bytes = gguf_of(model, tokens);
      const auto file = gguf::File::parse(bytes);
      ASSERT_TRUE(file) << file.error().message;
      const auto texts = TokenTexts::from_gguf(*file);
      const auto tokenizer = Tokenizer::from_gguf(*file);
      ASSERT_TRUE(texts && tokenizer) << tokenizer.error().message;
      for (const auto& [text, type] : tokens)
        EXPECT_EQ(texts->has(text), (*tokenizer)->find(text).has_value()) << model << " " << text << " " << type;
      EXPECT_TRUE(texts->has("ab"));
      EXPECT_FALSE(texts->has("<|fim_suffix|>"));
    }
}

TEST(TokenTexts, of_a_json_file_are_added_tokens_and_the_vocabulary) {
  const auto path = std::filesystem::path(::testing::TempDir()) / fmt::format("quern-token-texts-{}", ::getpid());
  const auto read = [&](std::string_view text) {
    std::ofstream(path) << text;
    return TokenTexts::from_json(path);
  };
  for (const char* vocab : {R"({"a":0,"[INST]":1})", R"([["a",0.0],["[INST]",-1.5]])"}) {
    const auto texts =
        read(R"({"added_tokens":[{"id":2,"content":"<|im_start|>"}],"model":{"vocab":)" + std::string(vocab) + "}}");
    ASSERT_TRUE(texts) << texts.error().message;
    for (const char* token : {"a", "[INST]", "<|im_start|>"}) EXPECT_TRUE(texts->has(token)) << token;
    EXPECT_FALSE(texts->has("<|im_end|>"));
  }
  for (const char* text : {"", "[]", "{}", R"({"added_tokens":[5],"model":{"vocab":[[],5]}})"})
    EXPECT_FALSE(read(text)) << text;
  std::filesystem::remove(path);
  EXPECT_FALSE(TokenTexts::from_json(path));
}

TEST(TokenTexts, of_a_gguf_file_without_tokens_are_an_error) {
  for (const bool has : {false, true}) {
    gguf::Writer writer;
    writer.set("general.architecture", "llama");
    if (has) writer.set("tokenizer.ggml.tokens", "no list");
    const auto bytes = writer.bytes();
    ASSERT_TRUE(bytes);
    const auto file = gguf::File::parse(*bytes);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_FALSE(TokenTexts::from_gguf(*file));
  }
}

}  // namespace
}  // namespace quern
