// SPDX-License-Identifier: Apache-2.0
#include "quern/model/golden_testing.h"

namespace quern::testing {
namespace {

// Five layers, the fourth without positions: a rope there moves the logits by a quarter of their norm.
TEST(SmolLm3, gives_the_references_logits) { expect_golden("smollm3"); }

}  // namespace
}  // namespace quern::testing
