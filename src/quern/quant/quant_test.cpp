// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/quant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "quern/quant/half.h"
#include "quern/quant/testing.h"

namespace quern {
namespace {

std::vector<const QuantType*> registry() { return {quant_table, quant_table + quant_table_size}; }

const QuantType& type_named(std::string_view name) {
  const QuantType* type = find_quant_type(name);
  EXPECT_NE(type, nullptr) << name;
  return *type;
}

TEST(QuantRegistry, finds_every_type_by_name_and_by_id) {
  for (std::string_view name : {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K",
                                "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"}) {
    const QuantType* type = find_quant_type(name);
    ASSERT_NE(type, nullptr) << name;
    EXPECT_EQ(find_quant_type(type->gguf_id), type) << name;
  }
  EXPECT_EQ(find_quant_type("Q9_Z"), nullptr);
  EXPECT_EQ(find_quant_type(4u), nullptr);  // an id that the format took back
}

TEST(QuantRegistry, ids_and_names_are_unique) {
  std::set<uint32_t> ids;
  std::set<std::string_view> names;
  for (const QuantType* type : registry()) {
    EXPECT_TRUE(ids.insert(type->gguf_id).second) << type->name;
    EXPECT_TRUE(names.insert(type->name).second) << type->name;
  }
}

// Bytes (37 k + 11) mod 256, then the half-precision scales and minima set to 0.0625 and 0.125 and the exponent of
// MXFP4 to 126. The values are those of the reference implementation of the format. S1 = Σ x, S2 = Σ (i + 1) x.
struct KnownAnswer {
  std::string_view type;
  int scale_at, min_at;  // byte offsets, -1: none
  double first, second, middle, last, s1, s2;
};
constexpr KnownAnswer kKnownAnswers[] = {
    {"Q4_0", 0, -1, -0.1875, 0.125, -0.1875, 0, -1.3125, -32.375},
    {"Q4_1", 0, 2, 1.0625, 0.375, 0.6875, 0.875, 19.3125, 314.9375},
    {"Q5_0", 0, -1, 0.5625, -0.125, 0.875, 0.0625, 0.9375, 7},
    {"Q5_1", 0, 2, 1.3125, 1.625, 1.3125, 0.4375, 35.5625, 559.8125},
    {"Q8_0", 0, -1, 5.3125, 7.625, -5.6875, -3, -11, -505},
    {"Q2_K", 80, 82, 2.0625, 0, 0.1875, 0, -28.8125, -6495.125},
    {"Q3_K", 108, -1, 5.0625, -6.75, 0.125, 2.625, 59.875, 11071.5625},
    {"Q4_K", 0, 2, 14.9375, -6.375, 25.3125, -0.25, 2610.5, 384106.5},
    {"Q5_K", 0, 2, 45.9375, -6.375, 64.3125, 3.5, 6471.5, 912519.5},
    {"Q6_K", 208, -1, -89.4375, 106, -21.9375, -3.75, 288.25, 49026.25},
    {"IQ4_NL", 0, -1, -2.1875, 1.5625, -2.1875, 0.0625, -16.0625, -432.4375},
    {"IQ4_XS", 0, -1, 4.0625, -0.0625, -36.5625, -1, -687.8125, -130695.875},
    {"MXFP4", -1, -1, 0, 1.5, 0.75, 1.5, 6.25, 159.5},
};

TEST(QuantTypes, decode_the_known_answers) {
  for (const KnownAnswer& known : kKnownAnswers) {
    SCOPED_TRACE(known.type);
    const QuantType& type = type_named(known.type);
    std::vector<std::byte> block(type.block_bytes);
    for (size_t k = 0; k < block.size(); ++k) block[k] = static_cast<std::byte>((37 * k + 11) & 255);
    const auto put_half = [&](int at, uint16_t half) {
      if (at >= 0) std::memcpy(&block[at], &half, 2);
    };
    put_half(known.scale_at, 0x2c00);
    put_half(known.min_at, 0x3000);
    if (known.type == "MXFP4") block[0] = std::byte{126};

    const int n = type.block_elems;
    std::vector<float> x(n);
    type.decode(block.data(), x.data(), 1);
    EXPECT_EQ(x[0], known.first);
    EXPECT_EQ(x[1], known.second);
    EXPECT_EQ(x[n / 2], known.middle);
    EXPECT_EQ(x[n - 1], known.last);
    // All values are multiples of 2^-8 below 2^10: sums in double are exact.
    double s1 = 0, s2 = 0;
    for (int i = 0; i < n; ++i) s1 += x[i], s2 += (i + 1.0) * x[i];
    EXPECT_EQ(s1, known.s1);
    EXPECT_EQ(s2, known.s2);
  }
}

TEST(QuantTypes, every_quantized_type_has_a_known_answer) {
  for (const QuantType* type : registry()) {
    bool known = type->integer == nullptr;
    for (const KnownAnswer& answer : kKnownAnswers) known |= answer.type == type->name;
    EXPECT_TRUE(known) << type->name;
  }
}

std::vector<std::byte> random_blocks(const QuantType& type, int n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(static_cast<size_t>(n) * type.block_bytes);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

// Every bit pattern is a block, NaN and infinity of the scales included.
TEST(QuantTypes, integer_form_is_the_decoded_block_on_random_bytes) {
  for (const QuantType* type : registry()) {
    if (!type->integer) continue;
    SCOPED_TRACE(type->name);
    const IntegerForm& form = *type->integer;
    constexpr int kBlocks = 300;
    const std::vector<std::byte> bytes = random_blocks(*type, kBlocks, 1);
    const int n = type->block_elems;
    std::vector<float> decoded(n);
    for (int b = 0; b < kBlocks; ++b) {
      const std::byte* block = bytes.data() + b * type->block_bytes;
      type->decode(block, decoded.data(), 1);
      const auto [codes, scales, mins] = SplitBlock(*type, block);
      for (int i = 0; i < n; ++i) {
        ASSERT_LT(codes[i], 1 << form.code_bits);
        const int value = form.levels ? form.levels[codes[i]] : codes[i] - form.zero;
        const float product = scales[i / form.group] * static_cast<float>(value);
        const float expected = form.has_min ? product + mins[i / form.group] : product;
        const bool same = std::isnan(expected) ? std::isnan(decoded[i]) : decoded[i] == expected;
        ASSERT_TRUE(same) << "block " << b << " element " << i << ": " << decoded[i] << ", expected " << expected;
      }
    }
  }
}

TEST(QuantTypes, integer_forms_keep_to_what_kernels_can_do) {
  for (const QuantType* type : registry()) {
    if (!type->integer) continue;
    SCOPED_TRACE(type->name);
    const IntegerForm& form = *type->integer;
    EXPECT_TRUE(form.group == 32 || (form.group == 16 && form.kind == ScaleKind::super));
    EXPECT_EQ(type->block_elems % 32, 0);
    EXPECT_TRUE(form.code_bits >= 1 && form.code_bits <= 8);
    EXPECT_FALSE(form.has_min && (form.levels || form.zero));
    EXPECT_FALSE(form.levels && (form.zero || form.code_bits != 4));
    EXPECT_TRUE(form.code_bits < 8 || form.zero == 128);
    EXPECT_LT(form.zero, 1 << form.code_bits);
  }
}

TEST(QuantTypes, six_bits_are_six_bits) {
  for (const QuantType* type : registry()) {
    if (!type->integer || !type->integer->six_bits) continue;
    SCOPED_TRACE(type->name);
    const std::vector<std::byte> bytes = random_blocks(*type, 200, 6);
    for (int b = 0; b < 200; ++b) {
      BlockNumbers numbers = {};
      type->integer->numbers(bytes.data() + b * type->block_bytes, numbers);
      for (int g = 0; g < 8; ++g) {
        ASSERT_EQ(numbers.scales[g] & ~63, 0);
        ASSERT_EQ(numbers.mins[g] & ~63, 0);
      }
    }
  }
}

TEST(QuantTypes, many_blocks_decode_as_one_by_one_and_no_further) {
  for (const QuantType* type : registry()) {
    SCOPED_TRACE(type->name);
    const int n = type->block_elems;
    const std::vector<std::byte> bytes = random_blocks(*type, 5, 3);
    std::vector<float> all(5 * n + 1, 12345.0f), one(n);
    type->decode(bytes.data(), all.data(), 5);
    EXPECT_EQ(all.back(), 12345.0f);
    for (int b = 0; b < 5; ++b) {
      type->decode(bytes.data() + b * type->block_bytes, one.data(), 1);
      EXPECT_EQ(std::memcmp(one.data(), all.data() + b * n, n * sizeof(float)), 0);
    }
  }
}

TEST(QuantTypes, encoding_reverses_decoding_of_plain_floats) {
  for (const QuantType* type : registry()) {
    if (!type->encode) continue;
    SCOPED_TRACE(type->name);
    const std::vector<std::byte> bytes = random_blocks(*type, 1000, 4);
    std::vector<float> x(1000);
    type->decode(bytes.data(), x.data(), 1000);
    std::vector<std::byte> again(bytes.size());
    type->encode(x.data(), again.data(), 1000);
    for (int i = 0; i < 1000; ++i) {
      const int at = i * type->block_bytes;
      ASSERT_TRUE(std::isnan(x[i]) || std::memcmp(&again[at], &bytes[at], type->block_bytes) == 0) << x[i];
    }
  }
}

TEST(QuantTypes, row_bytes_count_whole_blocks) {
  EXPECT_EQ(type_named("Q4_K").row_bytes(4096), 4096 / 256 * 144);
  EXPECT_EQ(type_named("F32").row_bytes(7), 28);
}

}  // namespace
}  // namespace quern
