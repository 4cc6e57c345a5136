// SPDX-License-Identifier: Apache-2.0
#include "quern/model/golden_testing.h"

namespace quern::testing {
namespace {

TEST(Qwen2, gives_the_references_logits) { expect_golden("qwen2"); }
TEST(Qwen2, reads_far_with_yarn) { expect_golden("qwen2-tied-yarn"); }
TEST(Qwen2, quantized_files_cost_no_more_than_the_peer_pays) { expect_golden_quantized("quant-qwen2"); }

}  // namespace
}  // namespace quern::testing
