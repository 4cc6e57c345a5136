// SPDX-License-Identifier: Apache-2.0
#include "quern/server/answer_logprobs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "quern/server/testing.h"

namespace quern {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

TEST(AnswerLogprobs, legacy_tokens_spell_the_text_where_a_character_has_several) {
  const auto tokenizer = testing::byte_tokenizer();
  LegacyLogprobs rows(*tokenizer);
  rows.add(std::vector<TokenInfo>{{.id = 'a', .logprob = -1}, {.id = 0xC3, .logprob = -2}});
  EXPECT_EQ(rows.take().dump(), R"({"tokens":["a",""],"token_logprobs":[-1.0,-2.0],)"
                                R"("top_logprobs":[{"a":-1.0},{"bytes:\\xc3":-2.0}],"text_offset":[0,1]})");
  rows.add(std::vector<TokenInfo>{{.id = 0xA9, .logprob = -3}, {.id = 'b', .logprob = -4}});
  EXPECT_EQ(rows.take().dump(), R"({"tokens":["é","b"],"token_logprobs":[-3.0,-4.0],)"
                                R"("top_logprobs":[{"bytes:\\xa9":-3.0},{"b":-4.0}],"text_offset":[1,2]})");
  EXPECT_EQ(rows.take().dump(), R"({"tokens":[],"token_logprobs":[],"top_logprobs":[],"text_offset":[]})");
}

TEST(AnswerLogprobs, legacy_rows_hold_the_token_itself_beside_the_best) {
  const auto tokenizer = testing::byte_tokenizer();
  LegacyLogprobs rows(*tokenizer);
  rows.add(std::vector<TokenInfo>{{.id = 'a', .logprob = -3, .top = {{'b', -1}, {'c', -2}}},
                                  {.id = 'b', .logprob = -1, .top = {{'b', -1}, {'c', kNever}}}});
  EXPECT_EQ(rows.take().find("top_logprobs")->dump(), R"([{"b":-1.0,"c":-2.0,"a":-3.0},{"b":-1.0,"c":-9999.0}])");
}

TEST(AnswerLogprobs, the_first_token_of_a_prompt_has_none) {
  const auto tokenizer = testing::byte_tokenizer();
  LegacyLogprobs rows(*tokenizer);
  rows.add(std::vector<TokenInfo>{{.id = 'a', .logprob = std::nan("")}});
  EXPECT_EQ(rows.take().dump(), R"({"tokens":["a"],"token_logprobs":[null],"top_logprobs":[null],"text_offset":[0]})");
}

TEST(AnswerLogprobs, chat_rows_tell_bytes_and_names) {
  const auto tokenizer = testing::byte_tokenizer();
  const std::vector<TokenInfo> tokens = {{.id = 0xC3, .logprob = kNever, .top = {{258, -1}}}};
  EXPECT_EQ(chat_logprobs(*tokenizer, tokens).dump(),
            R"({"content":[{"token":"�","logprob":-9999.0,"bytes":[195],)"
            R"("top_logprobs":[{"token":"<|im_end|>","logprob":-1.0,"bytes":[]}]}],"refusal":null})");
}

}  // namespace
}  // namespace quern
