// SPDX-License-Identifier: Apache-2.0
#include "quern/model/golden_testing.h"

namespace quern::testing {
namespace {

TEST(Qwen35Moe, gives_the_references_logits) { expect_golden("qwen3_5_moe"); }

}  // namespace
}  // namespace quern::testing
