// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/ffn_block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "quern/model/tiny_model.h"

namespace quern::testing {
namespace {

/// A llama of one layer with an inner part of that width, Q8_0 or float.
gguf::Writer with_inner_rows(uint32_t n_ff, bool quantized) {
  const Architecture& llama =
      **std::find_if(arch_table, arch_table + arch_table_size, [](const auto* a) { return a->name == "llama"; });
  gguf::Writer writer = tiny_metadata(llama);
  writer.set("llama.feed_forward_length", n_ff);
  writer.set("llama.block_count", uint32_t{1});
  const auto tensors = *asked_tensors(writer);
  std::mt19937 random(3);
  for (const ModelSource::Asked& tensor : tensors) {
    const std::vector<float> values = tiny_values(llama, tensor, random);
    if (quantized && tensor.shape.rank == 2 && tensor.shape.columns() % 32 == 0)
      writer.add(tensor.name, tensor.shape, *find_quant_type("Q8_0"), encode_q8_0(values));
    else
      writer.add(tensor.name, tensor.shape, quant_f32, values);
  }
  return writer;
}

// Many tokens: a worker's inner rows come in several runs, which share memory, and in pieces of several lengths, of
// which others take some. The last panels are fewer than are rounded together.
TEST(FfnBlock, a_token_does_not_know_its_companions_nor_the_threads) {
  constexpr int64_t kTokens = 500;
  for (bool quantized : {true, false})
    for (uint32_t n_ff : {96u, 4128u}) {
      const auto bytes = *with_inner_rows(n_ff, quantized).bytes();
      std::vector<float> expected;
      for (int threads : {1, 2, 3}) {
        Pool pool(threads);
        const auto source = *ModelSource::from(*gguf::File::parse(bytes));
        const auto model = load_model(*source, {kernel_table(best_isa()), pool, no_progress});
        ASSERT_TRUE(model) << model.error().message;
        const auto tokens = random_tokens(kTokens, (*model)->info().n_vocab, 4);
        if (expected.empty()) expected = all_logits(**model, pool, tokens, 7);
        for (int repeat = 0; repeat < 3; ++repeat)  // who is done takes what others are late with
          for (int64_t batch : {kTokens, int64_t{270}})
            EXPECT_TRUE(all_logits(**model, pool, tokens, batch) == expected)
                << n_ff << " inner rows, " << threads << " threads, " << batch << " tokens at a time";
      }
    }
}

}  // namespace
}  // namespace quern::testing
