// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/token_texts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <span>
#include <vector>

#include "quern/gguf/writer.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {
namespace {

TEST(TokenTexts, are_those_that_a_tokenizer_of_the_file_finds) {
  const std::vector<std::string> tokens = {"a",     "b",      "ab", "<|fim_prefix|>", "<｜fim▁begin｜>",
                                           "[PAD]", "<0x41>", "<x>"};
  const std::vector<int32_t> types = {1, 1, 1, 3, 3, 5, 6, 4};
  const std::vector<float> scores(tokens.size());
  const std::vector<std::string> merges = {"a b"};
  for (const char* model : {"gpt2", "llama"}) {
    gguf::Writer writer;
    writer.set("tokenizer.ggml.model", model).set("tokenizer.ggml.pre", "gpt-2");
    writer.set("tokenizer.ggml.tokens", std::span(tokens)).set("tokenizer.ggml.token_type", std::span(types));
    writer.set("tokenizer.ggml.scores", std::span(scores)).set("tokenizer.ggml.merges", std::span(merges));
    const auto bytes = writer.bytes();
    ASSERT_TRUE(bytes);
    const auto file = gguf::File::parse(*bytes);
    ASSERT_TRUE(file) << file.error().message;
    const auto texts = TokenTexts::from_gguf(*file);
    const auto tokenizer = Tokenizer::from_gguf(*file);
    ASSERT_TRUE(texts && tokenizer) << tokenizer.error().message;
    for (const std::string& token : tokens)
      EXPECT_EQ(texts->has(token), (*tokenizer)->find(token).has_value()) << model << " " << token;
    EXPECT_TRUE(texts->has("<|fim_prefix|>"));
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
