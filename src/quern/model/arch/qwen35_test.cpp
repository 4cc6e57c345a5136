// SPDX-License-Identifier: Apache-2.0
#include "quern/model/golden_testing.h"

namespace quern::testing {
namespace {

TEST(Qwen35, gives_the_references_logits) { expect_golden("qwen3_5"); }

}  // namespace
}  // namespace quern::testing
