// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "quern/ops/matmul_testing.h"
#include "quern/ops/test_support.h"
#include "quern/quant/quant.h"
#include "quern/quant/testing.h"

namespace quern {
namespace {

constexpr float kUntouched = 12345.0f;

/// Random weights of one type as a file would hold them. Blocks are random bytes, drawn again until their values are of
/// ordinary size: a single huge scale would hide the errors of all others.
struct Weights {
  const QuantType* type;
  int64_t rows, columns;
  std::vector<std::byte> data;

  Weights(const QuantType& t, int64_t r, int64_t c, uint32_t seed)
      : type(&t), rows(r), columns(c), data(r * t.row_bytes(c)) {
    std::mt19937 random(seed);
    std::vector<float> values(t.block_elems);
    for (size_t at = 0; at < data.size(); at += t.block_bytes) {
      bool ordinary = false;
      while (!ordinary) {
        for (int i = 0; i < t.block_bytes; ++i) data[at + i] = static_cast<std::byte>(random());
        t.decode(&data[at], values.data(), 1);
        float largest = 0;
        ordinary = true;
        for (float v : values) {
          ordinary &= std::isfinite(v);
          largest = std::max(largest, std::abs(v));
        }
        ordinary &= largest > 0x1p-6f && largest < 8;
      }
    }
  }

  TensorView view() const {
    TensorView v;
    v.type = type;
    v.shape = Shape{columns, rows};
    v.data = data;
    return v;
  }
};

std::vector<float> random_inputs(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

struct Product {
  Pool& pool;
  const KernelTable& kernels;

  /// y [tokens, rows] of several matrices that share the inputs; one column of untouched values behind each.
  std::vector<std::vector<float>> of(std::vector<const Matrix*> matrices, std::span<const float> x, int64_t tokens,
                                     const float* bias = nullptr, bool add = false, float before = kUntouched) {
    const int64_t columns = matrices[0]->columns();
    Workspace workspace;
    Activations inputs(workspace, kernels, pool.size(), tokens, columns, 0);
    std::vector<std::vector<float>> y;
    std::vector<MatmulJob> jobs;
    InputForms forms;
    for (const Matrix* m : matrices) {
      y.emplace_back(tokens * (m->rows() + 1), before);
      forms = forms | m->inputs();
    }
    for (size_t i = 0; i < matrices.size(); ++i)
      jobs.push_back({matrices[i], bias, y[i].data(), matrices[i]->rows() + 1, add});
    pool.run([&](const Worker& worker) {
      inputs.set(worker, x.data(), tokens, columns, forms);
      worker.barrier();
      matmul(worker, jobs, inputs);
    });
    return y;
  }
  std::vector<float> of(const Matrix& m, std::span<const float> x, int64_t tokens) { return of({&m}, x, tokens)[0]; }
};

InputForm input_form(const Weights& w) {
  return w.type->integer->kind == ScaleKind::super ? InputForm::per_128 : InputForm::per_32;
}

/// The sum in double over inputs as the matrix sees them, and the sum of all magnitudes that went into it.
struct Reference {
  std::vector<double> y, magnitude;

  Reference(const Weights& w, std::span<const float> x, int64_t tokens) : y(tokens * w.rows), magnitude(y.size()) {
    std::vector<double> seen(x.begin(), x.end());
    if (w.type->integer) {
      const RoundedInputs rounded(x, input_form(w));
      for (size_t i = 0; i < seen.size(); ++i) seen[i] = static_cast<double>(rounded.d_of(i)) * rounded.q[i];
    }
    std::vector<float> row(w.columns);
    for (int64_t r = 0; r < w.rows; ++r) {
      w.view().decode_row(r, row.data());
      const std::vector<double> parts = magnitudes(w, r);
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t c = 0; c < w.columns; ++c) {
          y[t * w.rows + r] += row[c] * seen[t * w.columns + c];
          magnitude[t * w.rows + r] += parts[c] * std::abs(seen[t * w.columns + c]);
        }
    }
  }

  /// |scale value| + |min| of each column: a small weight may be the difference of two large parts.
  static std::vector<double> magnitudes(const Weights& w, int64_t r) {
    std::vector<double> out(w.columns);
    const QuantType& type = *w.type;
    if (!type.integer) {
      std::vector<float> row(w.columns);
      w.view().decode_row(r, row.data());
      for (int64_t c = 0; c < w.columns; ++c) out[c] = std::abs(row[c]);
      return out;
    }
    const IntegerForm& form = *type.integer;
    for (int64_t b = 0; b < w.columns / type.block_elems; ++b) {
      const SplitBlock block(type, w.view().row(r).data() + b * type.block_bytes);
      for (int i = 0; i < type.block_elems; ++i) {
        const int value = form.levels ? form.levels[block.codes[i]] : block.codes[i] - form.zero;
        out[b * type.block_elems + i] =
            std::abs(block.scales[i / form.group] * value) + std::abs(block.mins[i / form.group]);
      }
    }
    return out;
  }
};

/// What y [tokens, rows + 1] of `Product` is on that level.
std::vector<float> reference_product(const Weights& w, std::span<const float> x, int64_t tokens, Isa isa) {
  const ReferenceProduct product(*w.type, isa);
  std::vector<float> y;
  for (int64_t t = 0; t < tokens; ++t) {
    const std::span<const float> token = x.subspan(t * w.columns, w.columns);
    for (int64_t r = 0; r < w.rows; ++r) {
      const std::span<const std::byte> row = w.view().row(r);
      y.push_back(w.type->integer ? product(row, RoundedInputs(token, input_form(w))) : product(row, token));
    }
    y.push_back(kUntouched);
  }
  return y;
}

/// Each bit, that of a zero's sign too.
testing::AssertionResult same_bits(const std::vector<float>& y, const std::vector<float>& expected) {
  if (y.size() != expected.size()) return testing::AssertionFailure() << y.size() << " and " << expected.size();
  for (size_t i = 0; i < y.size(); ++i)
    if (std::bit_cast<uint32_t>(y[i]) != std::bit_cast<uint32_t>(expected[i]))
      return testing::AssertionFailure() << "number " << i << " is " << y[i] << ", expected " << expected[i];
  return testing::AssertionSuccess();
}

/// Every level this machine runs; each test names the level of a failure.
template <typename Test>
void on_every_level(Test test) {
  for (Isa isa : usable_isas())
    for (const KernelTable& kernels : table_ways(isa)) {
      SCOPED_TRACE(fmt::format("{}{}{}", isa_name(isa), kernels.unpacked ? ", unpacked" : "",
                               kernels.matmul == two_stream_matmul_kernels(isa) ? ", two streams" : ""));
      test(kernels);
    }
}

/// Every weight type of the registry: a new one is tested by being there.
class MatmulOfType : public testing::TestWithParam<const QuantType*> {};
INSTANTIATE_TEST_SUITE_P(Registry, MatmulOfType, testing::ValuesIn(quant_table, quant_table + quant_table_size),
                         [](const auto& test) { return std::string(test.param->name); });

TEST_P(MatmulOfType, is_the_sum_over_decoded_weights) {
  constexpr int64_t kRows = 37, kColumns = 768, kTokens = 5;
  const Weights weights(*GetParam(), kRows, kColumns, 11);
  const std::vector<float> x = random_inputs(kTokens * kColumns, 12);
  const Reference reference(weights, x, kTokens);
  // Every step rounds to 24 bits: at most three per group of 32 columns and four for scales and ends with integers, one
  // per column and four with floats. Steps of random sign would give the root of that; we allow the worst case of the
  // integers, and for floats (fixed sums of a quarter of the columns) as much.
  const double steps = kColumns / 4 + 8;
  Pool pool(2);
  on_every_level([&](const KernelTable& kernels) {
    const Matrix matrix = Matrix::pack(weights.view(), kernels, pool);
    EXPECT_EQ(matrix.inputs().any(), weights.type->integer != nullptr);
    const std::vector<float> y = Product{pool, kernels}.of(matrix, x, kTokens);
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t r = 0; r < kRows; ++r) {
        const size_t i = t * kRows + r;
        ASSERT_NEAR(y[t * (kRows + 1) + r], reference.y[i], 0x1p-24 * steps * reference.magnitude[i])
            << "token " << t << " row " << r;
      }
      ASSERT_EQ(y[t * (kRows + 1) + kRows], kUntouched) << "wrote behind the last row";
    }
  });
}

TEST_P(MatmulOfType, has_the_bits_of_the_documented_sequence) {
  constexpr int64_t kColumns = 512, kMost = 29;
  const std::vector<float> x = random_inputs(kMost * kColumns, 13);
  for (int64_t rows : {1, 3, 15, 16, 17, 33, 51}) {
    const Weights weights(*GetParam(), rows, kColumns, 14);
    Pool pool(1);
    on_every_level([&](const KernelTable& kernels) {
      const Matrix matrix = Matrix::pack(weights.view(), kernels, pool);
      std::vector<float> expected = reference_product(weights, x, kMost, kernels.isa);
      for (int64_t tokens : {29, 25, 19, 17, 13, 9, 8, 7, 6, 5, 4, 3, 2, 1}) {
        expected.resize(tokens * (rows + 1));
        ASSERT_TRUE(same_bits(Product{pool, kernels}.of(matrix, x, tokens), expected))
            << rows << " rows, " << tokens << " tokens";
      }
    });
  }
}

TEST_P(MatmulOfType, has_the_same_bits_for_any_number_of_tokens_and_threads) {
  constexpr int64_t kRows = 51, kColumns = 512, kMost = 19;
  const Weights weights(*GetParam(), kRows, kColumns, 21);
  const std::vector<float> x = random_inputs(kMost * kColumns, 22);
  on_every_level([&](const KernelTable& kernels) {
    Pool one(1);
    const Matrix matrix = Matrix::pack(weights.view(), kernels, one);
    std::vector<float> alone;
    for (int64_t t = 0; t < kMost; ++t) {
      const std::vector<float> y = Product{one, kernels}.of(matrix, std::span(x).subspan(t * kColumns, kColumns), 1);
      alone.insert(alone.end(), y.begin(), y.end());
    }
    for (int threads : {1, 2, 3, 4}) {
      Pool pool(threads);
      const Matrix packed = Matrix::pack(weights.view(), kernels, pool);
      for (int64_t tokens = threads == 1 ? 1 : 13; tokens <= kMost; ++tokens) {
        const std::vector<float> y = Product{pool, kernels}.of(packed, x, tokens);
        ASSERT_EQ(std::memcmp(y.data(), alone.data(), y.size() * sizeof(float)), 0)
            << tokens << " tokens, " << threads << " threads";
      }
    }
  });
}

TEST_P(MatmulOfType, has_the_same_bits_where_weights_are_taken_apart_for_many_tiles) {
  const Isa isa = best_isa();
  if (!unpacked_kernels(isa)) GTEST_SKIP() << "this level takes none apart";
  // An odd number of panels, columns that end within 256 where the type lets them, more tiles than a set has.
  const int64_t columns = GetParam()->block_elems == 32 ? 288 : 512;
  constexpr int64_t kRows = 67, kMost = 601;
  const Weights weights(*GetParam(), kRows, columns, 23);
  const std::vector<float> x = random_inputs(kMost * columns, 24), bias = random_inputs(kRows, 25);
  Pool pool(2);
  const std::vector<KernelTable> tables = table_ways(isa);
  const Matrix plain = Matrix::pack(weights.view(), tables[0], pool);
  const Matrix unpacked = Matrix::pack(weights.view(), tables[1], pool);
  for (int64_t tokens : {24, 25, 64, 601}) {
    for (bool add : {false, true}) {
      const auto expected = Product{pool, tables[0]}.of({&plain}, x, tokens, bias.data(), add, 0.5f);
      EXPECT_TRUE(
          same_bits(Product{pool, tables[1]}.of({&unpacked}, x, tokens, bias.data(), add, 0.5f)[0], expected[0]))
          << tokens << " tokens";
    }
  }
}

TEST_P(MatmulOfType, has_the_same_bits_however_many_tiles_fit_the_cache) {
  const Isa isa = best_isa();
  if (!unpacked_kernels(isa)) GTEST_SKIP() << "this level takes none apart";
  // Of 2,048 columns the inputs of some tiles fit, of 4,096 so few that all pass at once; each in two sets.
  constexpr int64_t kRows = 33, kTokens = 601;
  Pool pool(2);
  const std::vector<KernelTable> tables = table_ways(isa);
  for (int64_t columns : {2048, 4096}) {
    const Weights weights(*GetParam(), kRows, columns, 28);
    const std::vector<float> x = random_inputs(kTokens * columns, 29);
    const auto expected = Product{pool, tables[0]}.of(Matrix::pack(weights.view(), tables[0], pool), x, kTokens);
    EXPECT_TRUE(
        same_bits(Product{pool, tables[1]}.of(Matrix::pack(weights.view(), tables[1], pool), x, kTokens), expected))
        << columns << " columns";
  }
}

TEST_P(MatmulOfType, takes_the_memory_that_was_foretold) {
  const QuantType& type = *GetParam();
  Pool pool(1);
  for (int64_t rows : {1, 16, 33})
    for (int64_t columns : {256, 768}) {
      const Weights weights(type, rows, columns, 25);
      EXPECT_EQ(Matrix::packed_bytes(type, rows, columns),
                Matrix::pack(weights.view(), kernel_table(best_isa()), pool).bytes())
          << rows << " rows, " << columns << " columns";
    }
}

TEST_P(MatmulOfType, takes_rows_of_a_tensor_by_a_pattern) {
  constexpr int64_t kRun = 5, kGroups = 7, kColumns = 256;  // runs end anywhere in a panel
  const Weights whole(*GetParam(), 2 * kGroups * kRun, kColumns, 26);
  const std::vector<float> x = random_inputs(2 * kColumns, 27);
  Pool pool(2);
  const KernelTable& kernels = kernel_table(best_isa());
  for (int64_t half : {0, 1}) {
    Weights copy = whole;
    copy.rows = kGroups * kRun;
    copy.data.clear();
    for (int64_t r = 0; r < whole.rows; ++r)
      if (const auto row = whole.view().row(r); r / kRun % 2 == half)
        copy.data.insert(copy.data.end(), row.begin(), row.end());
    const RowPattern pattern{.first = half * kRun, .run = kRun, .step = 2 * kRun, .rows = kGroups * kRun};
    const Matrix matrix = Matrix::pack(whole.view(), pattern, kernels, pool);
    EXPECT_EQ(matrix.rows(), kGroups * kRun);
    Product product{pool, kernels};
    EXPECT_EQ(product.of(matrix, x, 2), product.of(Matrix::pack(copy.view(), kernels, pool), x, 2)) << half;
  }
}

// The one list of them: whoever judges what fits into memory by the size of a file is wrong for these, and
// docs/kernels.md names them.
TEST(Matrix, types_that_grow_when_packed_are_these) {
  std::vector<std::string> grown;
  for (int i = 0; i < quant_table_size; ++i) {
    const QuantType& type = *quant_table[i];
    const double growth =
        static_cast<double>(Matrix::packed_bytes(type, 16, 256)) / static_cast<double>(16 * type.row_bytes(256)) - 1;
    if (growth > 0.1) grown.push_back(fmt::format("{} by {:.0f} %", type.name, 100 * growth));
    EXPECT_GT(growth, -0.001) << type.name << " lost bits";
  }
  EXPECT_EQ(grown, (std::vector<std::string>{"Q2_K by 95 %", "Q3_K by 33 %"}));
}

TEST_P(MatmulOfType, handles_fewer_rows_than_a_panel_and_one_group_of_columns) {
  const int64_t columns = std::max(32, GetParam()->block_elems);
  for (int64_t rows : {1, 4, 7, 15, 16, 17}) {
    const Weights weights(*GetParam(), rows, columns, 31);
    const std::vector<float> x = random_inputs(3 * columns, 32);
    const Reference reference(weights, x, 3);
    Pool pool(2);
    on_every_level([&](const KernelTable& kernels) {
      const Matrix matrix = Matrix::pack(weights.view(), kernels, pool);
      const std::vector<float> y = Product{pool, kernels}.of(matrix, x, 3);
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t r = 0; r < rows; ++r)
          ASSERT_NEAR(y[t * (rows + 1) + r], reference.y[t * rows + r],
                      0x1p-24 * (columns / 4 + 8) * reference.magnitude[t * rows + r]);
        ASSERT_EQ(y[t * (rows + 1) + rows], kUntouched);
      }
    });
  }
}

const QuantType& type_named(std::string_view name) { return *find_quant_type(name); }

TEST(Matmul, extreme_codes_and_inputs_do_not_saturate) {
  // All codes the largest and all inputs of full size with equal or alternating signs, or with those of the weights:
  // the sums that 16 bits could not hold if they were added carelessly. Where the inputs of 16 columns must not add up
  // to too much (per_128), only half of them can be 127: two of every four, which those sums meet together.
  constexpr int64_t kTokens = 5;
  for (int i = 0; i < quant_table_size; ++i) {
    const QuantType& type = *quant_table[i];
    if (!type.integer) continue;
    SCOPED_TRACE(type.name);
    Weights weights(type, 16, 256, 41);
    for (unsigned char fill : {0x00, 0x7f, 0x80, 0xff, 0x88, 0x77}) {
      // Keeps what is a scale in the middle of a block by trying the fill on every byte.
      for (std::byte& b : weights.data) {
        const std::byte old = b;
        b = static_cast<std::byte>(fill);
        const size_t block = (&b - weights.data.data()) / type.block_bytes * type.block_bytes;
        std::vector<float> values(type.block_elems);
        type.decode(&weights.data[block], values.data(), 1);
        for (float v : values)
          if (!(std::abs(v) < 64)) b = old;
      }
      for (int sign : {1, -1}) {
        std::vector<float> x(kTokens * 256), row(256);
        weights.view().decode_row(0, row.data());
        for (int c = 0; c < 256; ++c) {
          const float one = static_cast<float>(sign), half = c % 4 < 2 ? one : 0;
          const float of[kTokens] = {one, c % 2 ? -one : one, std::copysign(1.0f, row[c]) * one, half,
                                     std::copysign(1.0f, row[c]) * half};
          for (int t = 0; t < kTokens; ++t) x[t * 256 + c] = of[t];
        }
        const Reference reference(weights, x, kTokens);
        Pool pool(1);
        on_every_level([&](const KernelTable& kernels) {
          const std::vector<float> y =
              Product{pool, kernels}.of(Matrix::pack(weights.view(), kernels, pool), x, kTokens);
          ASSERT_TRUE(same_bits(y, reference_product(weights, x, kTokens, kernels.isa)));
          for (int64_t t = 0; t < kTokens; ++t)
            for (int64_t r = 0; r < 16; ++r)
              ASSERT_NEAR(y[t * 17 + r], reference.y[t * 16 + r], 0x1p-24 * 72 * reference.magnitude[t * 16 + r]);
        });
      }
    }
  }
}

constexpr int64_t kLargeRows = 7, kLargeColumns = 768;

/// Token t has the signs of row t and nearly full size.
std::vector<float> inputs_with_signs_of(const Weights& weights) {
  std::vector<float> x = random_inputs(weights.rows * weights.columns, 45), signs(weights.columns);
  for (int64_t t = 0; t < weights.rows; ++t) {
    weights.view().decode_row(t, signs.data());
    for (int64_t c = 0; c < weights.columns; ++c) {
      float& v = x[t * weights.columns + c];
      v = std::copysign(0.9f + 0.1f * std::min(std::abs(v), 1.0f), signs[c]);
    }
  }
  return x;
}

void expect_bits_of_the_reference(const Weights& weights, std::span<const float> x, int64_t tokens) {
  Pool pool(1);
  on_every_level([&](const KernelTable& kernels) {
    const Matrix matrix = Matrix::pack(weights.view(), kernels, pool);
    EXPECT_TRUE(
        same_bits(Product{pool, kernels}.of(matrix, x, tokens), reference_product(weights, x, tokens, kernels.isa)));
  });
}

TEST(Matmul, sums_of_128_columns_beyond_24_bits_round_as_the_level_says) {
  Weights weights(type_named("IQ4_XS"), kLargeRows, kLargeColumns, 44);
  for (size_t i = 0; i < weights.data.size(); ++i) {
    const size_t at = i % weights.type->block_bytes;
    std::byte& b = weights.data[i];
    // The first and the last of the table, scales -32 .. -17 and 16 .. 31 by their upper bits.
    if (at == 2 || at == 3) b = (b & std::byte{0x55}) | (b & std::byte{0x55}) << 1;
    if (at >= 8)
      b = (b & std::byte{0x11}) | (b & std::byte{0x11}) << 1 | (b & std::byte{0x11}) << 2 | (b & std::byte{0x11}) << 3;
  }
  const std::vector<float> x = inputs_with_signs_of(weights);
  expect_bits_of_the_reference(weights, x, kLargeRows);
  EXPECT_FALSE(same_bits(reference_product(weights, x, kLargeRows, Isa::avx2),
                         reference_product(weights, x, kLargeRows, Isa::avx512)))
      << "no sum was large enough to be rounded";
}

TEST(Matmul, integer_sums_of_128_columns_beyond_24_bits_are_exact) {
  Weights weights(type_named("Q6_K"), kLargeRows, kLargeColumns, 44);
  const QuantType& type = *weights.type;
  for (size_t i = 0; i < weights.data.size(); ++i) {
    const size_t at = i % type.block_bytes;
    std::byte& b = weights.data[i];
    // Codes 0 .. 15 and 48 .. 63 by their upper bits, scales of 64 and more.
    if (at >= 128 && at < 192) b = (b & std::byte{0x55}) | (b & std::byte{0x55}) << 1;
    if (at >= 192 && at < 208) b = (b & std::byte{0xbf}) | (~b & std::byte{0x80}) >> 1;
  }
  const std::vector<float> x = inputs_with_signs_of(weights);
  expect_bits_of_the_reference(weights, x, kLargeRows);

  const RoundedInputs rounded(x, InputForm::per_128);
  int64_t largest = 0;
  for (int64_t t = 0; t < kLargeRows; ++t) {
    BlockNumbers numbers;
    std::vector<uint8_t> codes(type.block_elems);
    type.integer->codes(weights.view().row(t).data(), codes.data());
    type.integer->numbers(weights.view().row(t).data(), numbers);
    int64_t total = 0;
    for (int c = 0; c < 128; ++c)
      total += int64_t{numbers.scales[c / 16]} * (codes[c] - 32) * rounded.q[t * kLargeColumns + c];
    largest = std::max(largest, std::abs(total));
  }
  EXPECT_GT(largest, 1 << 24) << "floats would have held them";
}

TEST(Matmul, levels_from_avx2_on_have_the_same_bits_but_for_sums_of_floats) {
  if (best_isa() <= Isa::avx2 || best_isa() == Isa::neon) GTEST_SKIP() << "needs a level above avx2";
  const std::vector<float> x = random_inputs(9 * 512, 47);
  for (int i = 0; i < quant_table_size; ++i) {
    // A wide table under integer scales: with VNNI its sums of 128 columns are floats.
    if (quant_table[i] == &type_named("IQ4_XS")) continue;
    const Weights weights(*quant_table[i], 37, 512, 46);
    Pool pool(1);
    const auto product = [&](Isa isa, int64_t tokens) {
      const KernelTable& kernels = kernel_table(isa);
      return Product{pool, kernels}.of(Matrix::pack(weights.view(), kernels, pool), x, tokens);
    };
    for (int64_t tokens = 1; tokens <= 9; ++tokens)
      for (Isa isa : usable_isas()) {
        if (isa <= Isa::avx2) continue;
        EXPECT_TRUE(same_bits(product(isa, tokens), product(Isa::avx2, tokens)))
            << isa_name(isa) << ", " << quant_table[i]->name << ", " << tokens << " tokens";
      }
  }
}

TEST(Matmul, jobs_share_the_inputs_and_the_workers) {
  const std::vector<float> x = random_inputs(6 * 256, 52);
  on_every_level([&](const KernelTable& kernels) {
    Pool pool(3);
    std::vector<Matrix> matrices;
    for (std::string_view name : {"Q4_1", "F32", "Q6_K", "BF16", "MXFP4"})
      matrices.push_back(Matrix::pack(
          Weights(type_named(name), 5 + 11 * static_cast<int64_t>(matrices.size()), 256, 51).view(), kernels, pool));
    std::vector<const Matrix*> pointers;
    for (const Matrix& m : matrices) pointers.push_back(&m);
    Product product{pool, kernels};
    const auto together = product.of(pointers, x, 6);
    for (size_t i = 0; i < matrices.size(); ++i) EXPECT_EQ(together[i], product.of(matrices[i], x, 6)) << i;
  });
}

// However inputs come to be, in whatever share of whichever worker: the same bytes, so the same products.
TEST(Matmul, inputs_made_or_set_by_columns_are_the_inputs) {
  constexpr int64_t kColumns = 512, kRows = 40;
  for (std::string_view name : {"Q4_K", "Q8_0", "F32"}) {
    const Weights weights(type_named(name), kRows, kColumns, 55);
    on_every_level([&](const KernelTable& kernels) {
      for (int threads : {1, 2, 3}) {
        Pool pool(threads);
        const Matrix matrix = Matrix::pack(weights.view(), kernels, pool);
        for (int64_t tokens : {1, 3, 8, 9, 21}) {
          const std::vector<float> x = random_inputs(tokens * kColumns, 56);
          const std::vector<float> expected = Product{pool, kernels}.of(matrix, x, tokens);
          Workspace workspace;
          Activations inputs(workspace, kernels, threads, tokens, kColumns, kColumns);
          std::vector<float> made(expected.size(), kUntouched), by_columns(made), rows(tokens * kColumns);
          const auto multiply = [&](const Worker& worker, std::vector<float>& y) {
            matmul(worker, MatmulJob{&matrix, nullptr, y.data(), kRows + 1}, inputs);
          };
          pool.run([&](const Worker& worker) {
            inputs.make(worker, tokens, kColumns, matrix.inputs(), rows.data(),
                        [&](int64_t t, float* row) { std::copy_n(x.data() + t * kColumns, kColumns, row); });
            multiply(worker, made);
            if (!matrix.inputs().any()) return;  // only rounded inputs are set by columns
            worker.barrier();
            const auto [first, last] = worker.share(kColumns, 128);
            inputs.set_columns(worker, tokens, kColumns, matrix.inputs(), {x.data() + first, kColumns, first, last});
            worker.barrier();
            multiply(worker, by_columns);
          });
          EXPECT_EQ(made, expected) << name << ", " << tokens << " tokens, " << threads << " threads";
          if (matrix.inputs().any()) {
            EXPECT_EQ(by_columns, expected) << name << ", " << tokens << " tokens, " << threads << " threads";
          }
        }
      }
    });
  }
}

TEST(Matmul, adds_bias_and_what_was_there) {
  const std::vector<float> x = random_inputs(3 * 64, 62), bias = random_inputs(21, 63);
  on_every_level([&](const KernelTable& kernels) {
    Pool pool(2);
    for (std::string_view name : {"Q8_0", "F32"}) {
      const Matrix matrix = Matrix::pack(Weights(type_named(name), 21, 64, 61).view(), kernels, pool);
      Product product{pool, kernels};
      const std::vector<float> plain = product.of(matrix, x, 3);
      const std::vector<float> biased = product.of({&matrix}, x, 3, bias.data())[0];
      const std::vector<float> both = product.of({&matrix}, x, 3, bias.data(), true, 7.5f)[0];
      for (int64_t t = 0; t < 3; ++t)
        for (int64_t r = 0; r < 21; ++r) {
          EXPECT_EQ(biased[t * 22 + r], plain[t * 22 + r] + bias[r]);
          EXPECT_EQ(both[t * 22 + r], 7.5f + biased[t * 22 + r]);
        }
    }
  });
}

TEST(Matmul, floats_take_any_number_of_columns) {
  for (int64_t columns : {1, 2, 3, 5, 31, 66, 129}) {
    for (std::string_view name : {"F32", "F16", "BF16"}) {
      const Weights weights(type_named(name), 19, columns, 71);
      const std::vector<float> x = random_inputs(8 * columns, 72);
      const Reference reference(weights, x, 8);
      Pool pool(2);
      on_every_level([&](const KernelTable& kernels) {
        const std::vector<float> y = Product{pool, kernels}.of(Matrix::pack(weights.view(), kernels, pool), x, 8);
        for (int64_t t = 0; t < 8; ++t)
          for (int64_t r = 0; r < 19; ++r)
            ASSERT_NEAR(y[t * 20 + r], reference.y[t * 19 + r],
                        0x1p-24 * (columns / 4.0 + 4) * reference.magnitude[t * 19 + r]);
      });
    }
  }
}

TEST(Matmul, rows_of_floats_are_a_matrix) {
  const std::vector<float> values = random_inputs(18 * 40, 81), x = random_inputs(40, 82);
  Pool pool(2);
  const KernelTable& kernels = kernel_table(best_isa());
  const Matrix matrix = Matrix::pack(values, 18, 40, kernels, pool);
  EXPECT_FALSE(matrix.inputs().any());
  EXPECT_EQ(matrix.rows(), 18);
  EXPECT_EQ(matrix.columns(), 40);
  const std::vector<float> y = Product{pool, kernels}.of(matrix, x, 1);
  for (int64_t r = 0; r < 18; ++r) {
    double sum = 0, magnitude = 0;
    for (int64_t c = 0; c < 40; ++c) {
      sum += static_cast<double>(values[r * 40 + c]) * x[c];
      magnitude += std::abs(static_cast<double>(values[r * 40 + c]) * x[c]);
    }
    EXPECT_NEAR(y[r], sum, 0x1p-24 * 14 * magnitude);
  }
}

template <typename T>
T number_at(const std::vector<std::byte>& tile, int64_t at, int64_t index) {
  T value;
  std::memcpy(&value, &tile[at + index * sizeof value], sizeof value);
  return value;
}

/// NaN is NaN, whatever its bits.
bool same_number(float a, float b) { return (std::isnan(a) && std::isnan(b)) || a == b; }

/// A token in the tile as kernels/matmul.h draws it.
void expect_rounded(std::span<const float> x, InputForm form, int tokens, int token,
                    const std::vector<std::byte>& tile) {
  const RoundedInputs expected(x, form);
  for (int64_t c = 0; c < std::ssize(x); c += expected.columns) {
    const int64_t base = c / expected.columns * input_bytes(form) * tokens;
    for (int64_t i = 0; i < expected.columns; ++i)
      ASSERT_EQ(number_at<int8_t>(tile, base + (i / 32 * tokens + token) * 32, i % 32), expected.q[c + i])
          << "column " << c + i << " is " << x[c + i];
    const float d = expected.d_of(c);
    if (form == InputForm::per_32) {
      const int sum = expected.sum(c, 32);
      ASSERT_TRUE(same_number(number_at<float>(tile, base + 32 * tokens, token), d)) << c;
      ASSERT_TRUE(same_number(number_at<float>(tile, base + 36 * tokens, token), -kOffset * d)) << c;
      ASSERT_TRUE(same_number(number_at<float>(tile, base + 40 * tokens, token), d * static_cast<float>(sum))) << c;
      for (int i = 0; const int zero : {8, 16, 128})
        ASSERT_EQ(number_at<int32_t>(tile, base + 44 * tokens, i++ * tokens + token), kOffsetBits - zero * sum) << c;
      continue;
    }
    ASSERT_TRUE(same_number(number_at<float>(tile, base + 136 * tokens, token), d)) << c;
    for (int first = 0; first < 128; first += 16) {
      int magnitude = 0;
      for (int i = first; i < first + 16; ++i) magnitude += std::abs(expected.q[c + i]);
      ASSERT_LE(magnitude, kMostMagnitude16) << c + first;
    }
    for (int g = 0; g < 4; ++g) {
      const int low = expected.sum(c + 32 * g, 16), high = expected.sum(c + 32 * g + 16, 16);
      ASSERT_EQ(number_at<int16_t>(tile, base + 128 * tokens, 4 * token + g), low + high) << c;
      ASSERT_EQ(number_at<int16_t>(tile, base + 140 * tokens, 2 * (g * tokens + token)), low) << c;
      ASSERT_EQ(number_at<int16_t>(tile, base + 140 * tokens, 2 * (g * tokens + token) + 1), high) << c;
      const int starts[] = {-32 * low, -32 * high, -128 * (low + high)};
      for (int i = 0; i < 3; ++i)
        ASSERT_EQ(number_at<int32_t>(tile, base + 156 * tokens, (3 * g + i) * tokens + token), starts[i]) << c;
    }
  }
}

/// One token's columns by 128, each with something that rounding could get wrong.
std::vector<float> inputs_hard_to_round() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kDenormal = std::numeric_limits<float>::denorm_min(), kMost = std::numeric_limits<float>::max();
  std::vector<float> x;
  uint32_t seed = 91;
  /// 128 normal numbers, changed one by one.
  const auto add = [&](auto change) {
    std::vector<float> group = random_inputs(128, seed++);
    for (int i = 0; i < 128; ++i) change(i, group[i]);
    x.insert(x.end(), group.begin(), group.end());
  };
  add([](int, float&) {});
  add([](int, float& v) { v = 0; });
  add([](int i, float& v) { v = i % 2 ? -0.0f : 0.0f; });
  add([](int, float& v) { v *= kDenormal * 1000; });                     // nothing but denormals
  add([](int i, float& v) { v = i % 32 == 9 ? v : v * 0x1p-130f; });     // among others
  add([](int, float& v) { v *= 0x1p-105f; });                            // below what counts,
  add([](int i, float& v) { v = i % 32 ? v * 0x1p-110f : 0x1p-100f; });  // just not,
  add([](int, float& v) { v = std::nextafter(0x1p-100f, 0.0f); });       // and just
  add([](int i, float& v) { v = i < 32 ? v : v * 0x1p-105f; });          // in some of the groups of 32
  add([](int i, float& v) { v = i % 32 ? v * 1e30f : -kMost; });
  add([](int i, float& v) { v = i == 40 ? kInfinity : v; });
  add([](int i, float& v) { v = i == 127 ? -kInfinity : v; });
  add([](int i, float& v) { v = i == 0 ? kNan : v; });
  add([](int i, float& v) { v = i == 95 ? -kNan : i == 96 ? kInfinity : v; });
  add([](int i, float& v) { v = i % 32 ? static_cast<float>(i - 64) + 0.5f : 127.0f; });  // midpoints: to even
  add([](int i, float& v) {                                                               // and beside them
    v = i % 32 ? std::nextafter(static_cast<float>(i - 64) + 0.5f, i % 2 ? 1e9f : -1e9f) : -127.0f;
  });
  add([](int i, float& v) { v = i % 2 ? 127.0f : -127.0f; });
  // Sums of 16 columns that are the most that fits, or would be more.
  add([](int, float& v) { v = -1; });
  add([](int i, float& v) { v = i / 16 == 5 ? 0.5f : v * 0x1p-10f; });
  add([](int i, float& v) { v = i == 1 ? 1.0f : i / 16 == 7 ? 0.5f : v * 0x1p-4f; });
  add([](int i, float& v) { v = i == 1 ? 1.0f : i / 16 == 7 ? 0.4999f : v * 0x1p-4f; });
  // Just below what is too large, just too large, and too large by the sum of 16.
  add([](int i, float& v) { v = i % 16 ? 0x1p97f : std::nextafter(0x1p100f, 0.0f); });
  add([](int i, float& v) { v = i % 32 == 3 ? 0x1p100f : 0x1p97f; });
  add([](int, float& v) { v = 0x1p99f; });
  // What is a midpoint, or the number before or behind it, by the product with 127 / largest only.
  for (const float largest : {0.7f, 1.0f, 3.1415927f, 1e-20f, 1e20f})
    add([&](int i, float& v) {
      const float middle = (static_cast<float>(i - 64) + 0.5f) / (127 / largest);
      v = i % 32 == 0 ? largest : i % 3 == 0 ? middle : std::nextafter(middle, i % 3 == 1 ? kInfinity : -kInfinity);
    });
  return x;
}

TEST(Matmul, inputs_are_rounded_as_a_scalar_loop_does) {
  const std::vector<float> hard = inputs_hard_to_round();
  const int64_t columns = std::ssize(hard);
  for (const InputForm form : {InputForm::per_32, InputForm::per_128})
    for (int tokens = 1; tokens <= kMostTileTokens; ++tokens) {
      std::vector<float> x;
      for (int t = 0; t < tokens; ++t) {
        // Other numbers in front of the same for every token.
        const std::vector<float> first = random_inputs(128, 200 + t);
        x.insert(x.end(), first.begin(), first.end());
        x.insert(x.end(), hard.begin(), hard.end());
      }
      const int64_t all = columns + 128;
      on_every_level([&](const KernelTable& kernels) {
        std::vector<std::byte> tile(tokens * all / input_columns(form) * input_bytes(form));
        for (int t = 0; t < tokens; ++t)
          kernels.rounding->round[static_cast<int>(form)](&x[t * all], all, tokens, t, tile.data());
        for (int t = 0; t < tokens; ++t) expect_rounded(std::span(x).subspan(t * all, all), form, tokens, t, tile);
      });
    }
}

TEST(Matmul, groups_that_are_not_finite_give_nan_and_others_do_not_suffer) {
  const Weights weights(type_named("Q4_0"), 16, 64, 95);
  std::vector<float> x = random_inputs(3 * 64, 96);
  x[64 + 5] = std::numeric_limits<float>::infinity();
  on_every_level([&](const KernelTable& kernels) {
    Pool pool(1);
    const std::vector<float> y = Product{pool, kernels}.of(Matrix::pack(weights.view(), kernels, pool), x, 3);
    for (int r = 0; r < 16; ++r) {
      EXPECT_TRUE(std::isfinite(y[r]));
      EXPECT_TRUE(std::isnan(y[17 + r]));
      EXPECT_TRUE(std::isfinite(y[34 + r]));
    }
  });
}

TEST(Matmul, more_than_the_address_space_is_bad_alloc_before_any_worker_runs) {
  Pool pool(2);
  const KernelTable& kernels = kernel_table(best_isa());
  for (const char* name : {"F32", "Q4_0"}) {
    TensorView view;
    view.type = &type_named(name);
    view.shape = Shape{int64_t{1} << 20, int64_t{1} << 40};  // no data: reading any would crash
    EXPECT_THROW(Matrix::pack(view, kernels, pool), std::bad_alloc) << name;
  }
  int ran[2] = {};
  pool.run([&](const Worker& worker) { ++ran[worker.index()]; });
  EXPECT_EQ(ran[0] + ran[1], 2);
}

TEST(Matmul, no_tokens_are_no_work) {
  Pool pool(2);
  const KernelTable& kernels = kernel_table(best_isa());
  const Matrix matrix = Matrix::pack(Weights(type_named("Q4_0"), 16, 64, 97).view(), kernels, pool);
  const std::vector<float> y = Product{pool, kernels}.of(matrix, {}, 0);
  EXPECT_TRUE(y.empty());
}

}  // namespace
}  // namespace quern
