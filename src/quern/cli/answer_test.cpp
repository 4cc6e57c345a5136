// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/answer.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

Generated generated(std::vector<TokenId> ids, int64_t steps) {
  Generated out;
  out.ids = std::move(ids);
  out.finish = FinishReason::stop;
  out.prompt_tokens = 10;
  out.prompt_seconds = 0.5;
  out.decode_steps = steps;
  out.decode_seconds = 0.25;
  return out;
}

TEST(Answer, the_rate_is_one_of_steps) {
  Generated g = generated({1, 2, 3}, 2);
  EXPECT_EQ(speed_text(g), "3 tokens, 8.0 tokens/s; prompt 10 tokens, 20.0 tokens/s");
  const Json json = answer_json({g, {}, {}}, 7);
  EXPECT_EQ(json.find("decode_tps")->number(), 8);
  EXPECT_EQ(json.find("prefill_tps")->number(), 20);
  EXPECT_EQ(json.find("completion_tokens")->integer(), 3);
  g.reused_tokens = 9;
  g.finish = FinishReason::length;
  EXPECT_EQ(speed_text(g), "3 tokens, 8.0 tokens/s; prompt 1 token (and 9 known), 2.0 tokens/s; stopped at the limit");
}

TEST(Answer, without_a_step_there_is_no_rate) {
  EXPECT_EQ(speed_text(generated({1}, 0)), "1 token; prompt 10 tokens, 20.0 tokens/s");
  EXPECT_EQ(speed_text(generated({}, 0)), "0 tokens; prompt 10 tokens, 20.0 tokens/s");
  EXPECT_EQ(answer_json({generated({1}, 0), {}, {}}, 7).find("decode_tps")->number(), 0);
}

}  // namespace
}  // namespace quern
