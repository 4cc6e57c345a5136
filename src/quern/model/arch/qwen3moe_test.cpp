// SPDX-License-Identifier: Apache-2.0
#include "quern/model/golden_testing.h"

namespace quern::testing {
namespace {

TEST(Qwen3Moe, gives_the_references_logits) { expect_golden("qwen3moe"); }
TEST(Qwen3Moe, weights_need_not_add_up_to_one) { expect_golden("qwen3moe-nonorm"); }
TEST(Qwen3Moe, quantized_files_cost_no_more_than_the_peer_pays) { expect_golden_quantized("quant-qwen3moe"); }

}  // namespace
}  // namespace quern::testing
