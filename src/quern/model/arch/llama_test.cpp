// SPDX-License-Identifier: Apache-2.0
#include "quern/model/golden_testing.h"

namespace quern::testing {
namespace {

TEST(Llama, gives_the_references_logits) { expect_golden("llama"); }
TEST(Llama, adds_biases_and_stretches_positions) { expect_golden("llama-bias"); }
TEST(Llama, scales_rope_in_three_bands) { expect_golden("llama-rope3"); }
TEST(Llama, answers_with_its_embedding_when_tied) { expect_golden("llama-tied"); }
TEST(Llama, sees_mistrals_window_in_a_folder) { expect_golden("mistral"); }
TEST(Llama, quantized_files_cost_no_more_than_the_peer_pays) { expect_golden_quantized("quant-llama"); }

}  // namespace
}  // namespace quern::testing
