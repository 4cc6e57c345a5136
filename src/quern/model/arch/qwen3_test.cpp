// SPDX-License-Identifier: Apache-2.0
#include "quern/model/golden_testing.h"

namespace quern::testing {
namespace {

TEST(Qwen3, gives_the_references_logits) { expect_golden("qwen3"); }
TEST(Qwen3, answers_with_its_embedding_when_tied) { expect_golden("qwen3-tied"); }
TEST(Qwen3, quantized_files_cost_no_more_than_the_peer_pays) { expect_golden_quantized("quant-qwen3"); }

}  // namespace
}  // namespace quern::testing
