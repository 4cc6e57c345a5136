// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/kernel_table.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "quern/kernels/attention.h"
#include "quern/kernels/matmul.h"

namespace quern {
namespace {

TEST(KernelTable, has_attention_in_every_form_that_the_cpu_has) {
  for (const Isa isa : usable_isas()) {
    const auto& forms = attention_forms(isa);
    EXPECT_NE(std::ranges::find(forms, AttentionForm::f32), forms.end());
    EXPECT_NE(std::ranges::find(forms, best_attention_form(isa)), forms.end());
    EXPECT_EQ(kernel_table(isa).attention_form, best_attention_form(isa));
    for (const AttentionForm form : forms) {
      const KernelTable& table = kernel_table(isa, form);
      EXPECT_EQ(table.isa, isa);
      EXPECT_EQ(table.attention_form, form);
      EXPECT_EQ(table.attention->attend_bf16 != nullptr, form == AttentionForm::bf16);
      EXPECT_NE(table.attention->merge, nullptr);
    }
  }
}

TEST(KernelTable, takes_weights_apart_where_the_level_can_at_least_of_these_types) {
  for (const Isa isa : usable_isas()) {
    const UnpackedKernels *all = unpacked_kernels(isa), *chosen = kernel_table(isa).unpacked;
    EXPECT_EQ(all != nullptr, isa == Isa::avx512);
    EXPECT_EQ(chosen != nullptr, all != nullptr);
    for (int c = 0; chosen && c < kCodesForms; ++c)
      for (int s = 0; s < kScalesForms; ++s) {
        const bool q6 = static_cast<Codes>(c) == Codes::six_bits, k45 = static_cast<Scales>(s) == Scales::sub_6_min;
        if (chosen->unpack[c][s] || q6 || k45) {
          EXPECT_EQ(chosen->unpack[c][s], all->unpack[c][s]);
          EXPECT_TRUE(std::ranges::equal(chosen->tile[c][s], all->tile[c][s]));
        }
      }
    for (const AttentionForm form : attention_forms(isa))
      EXPECT_EQ(kernel_table(isa, form).unpacked, kernel_table(isa).unpacked);
  }
}

TEST(KernelTable, reads_one_stream_or_two_with_tiles_of_the_same_sizes) {
  for (const Isa isa : usable_isas()) {
    const MatmulKernels &one = matmul_kernels(isa), *two = two_stream_matmul_kernels(isa);
    EXPECT_EQ(two != nullptr, isa == Isa::avx512);
    for (const AttentionForm form : attention_forms(isa)) {
      const MatmulKernels* chosen = kernel_table(isa, form).matmul;
      EXPECT_TRUE(chosen == &one || chosen == two);
      EXPECT_EQ(chosen, kernel_table(isa).matmul);
    }
    EXPECT_EQ(one.panels[0], 1);
    if (!two) continue;
    EXPECT_EQ(two->tokens, one.tokens);
    EXPECT_EQ(two->many_tokens, one.many_tokens);
    for (int t = 0; t < two->tokens; ++t) EXPECT_EQ(two->panels[t], 2) << t + 1 << " tokens";
  }
}

}  // namespace
}  // namespace quern
