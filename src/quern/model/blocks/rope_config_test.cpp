// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/rope_config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "quern/gguf/writer.h"

namespace quern {
namespace {

/// A GGUF file's metadata in memory, read as a source.
struct Gguf {
  gguf::Writer writer;
  std::vector<std::byte> bytes;
  std::unique_ptr<ModelSource> source;

  Gguf() { writer.set("general.architecture", "llama").set("llama.context_length", 4096u); }
  Result<Rope> read(int head_width, RopeDefaults defaults = {}) {
    bytes = *writer.bytes();
    source = *ModelSource::from(*gguf::File::parse(bytes));
    return read_rope(*source, head_width, defaults);
  }
};

/// A folder with this config.json and a tensor, for there must be one.
class HfRope : public ::testing::Test {
 protected:
  Result<Rope> read(std::string_view settings, int head_width, RopeDefaults defaults = {}) {
    const auto folder = std::filesystem::path(::testing::TempDir()) / fmt::format("quern-rope-config-{}", ::getpid());
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "config.json")
        << R"({"model_type": "llama", "max_position_embeddings": 131072, )" << settings << "}";
    const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    const uint64_t size = header.size();
    std::ofstream out(folder / "model.safetensors", std::ios::binary);
    out.write(reinterpret_cast<const char*>(&size), 8)
        .write(header.data(), static_cast<std::streamsize>(size))
        .write("\0\0\0\0", 4);
    out.close();
    source_ = *ModelSource::open(folder);
    return read_rope(*source_, head_width, defaults);
  }
  std::unique_ptr<ModelSource> source_;
};

double plain(int i, int d, double base) { return std::pow(base, -2.0 * i / d); }

TEST(GgufRope, turns_the_whole_head_by_default) {
  Gguf file;
  const auto rope = file.read(64, {.pairs = RopePairs::interleaved});
  ASSERT_TRUE(rope) << rope.error().message;
  ASSERT_EQ(rope->inv_freq.size(), 32u);
  EXPECT_EQ(rope->pairs, RopePairs::interleaved);
  EXPECT_DOUBLE_EQ(rope->inv_freq[7], plain(7, 64, 10000));
  EXPECT_EQ(rope->magnitude, 1);
}

TEST(GgufRope, reads_base_dimensions_and_linear_factor) {
  Gguf file;
  file.writer.set("llama.rope.freq_base", 5e5f)
      .set("llama.rope.dimension_count", 16u)
      .set("llama.rope.scaling.factor", 4.f);
  const auto rope = file.read(64);
  ASSERT_TRUE(rope) << rope.error().message;
  ASSERT_EQ(rope->inv_freq.size(), 8u);
  EXPECT_DOUBLE_EQ(rope->inv_freq[3], plain(3, 16, 5e5) / 4);
}

// Smaller ones would make frequencies infinite and their angles no numbers.
TEST(GgufRope, a_factor_is_none_or_one_that_leaves_numbers) {
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    for (double factor : {1e-300, 1e-4, -1.0, 1e7}) {
      Gguf file;
      file.writer.set(key, factor);
      const auto rope = file.read(64);
      ASSERT_FALSE(rope) << key << " = " << factor;
      EXPECT_EQ(rope.error().code, ErrorCode::corrupt_data);
      EXPECT_NE(rope.error().message.find(key), std::string::npos) << rope.error().message;
    }
    for (const auto& [factor, divisor] : {std::pair{0.0, 1.0}, {1e-3, 1e-3}, {2.0, 2.0}}) {
      Gguf file;
      file.writer.set(key, factor);
      const auto rope = file.read(64);
      ASSERT_TRUE(rope) << rope.error().message;
      EXPECT_DOUBLE_EQ(rope->inv_freq[5], plain(5, 64, 10000) / divisor);
    }
  }
}

// gpt-oss's frequencies as ggml computes them, which always rounds the ramp's ends: published values.
TEST(GgufRope, yarn_rounds_its_ramp_and_raises_the_magnitude) {
  Gguf file;
  file.writer.set("llama.rope.freq_base", 150000.f)
      .set("llama.rope.scaling.type", "yarn")
      .set("llama.rope.scaling.factor", 32.f);
  file.writer.set("llama.rope.scaling.original_context_length", 4096u);
  auto rope = file.read(64);
  ASSERT_TRUE(rope) << rope.error().message;
  EXPECT_NEAR(rope->inv_freq[9], 3.162075e-2, 1e-8);
  EXPECT_NEAR(rope->inv_freq[12], 7.015714e-3, 1e-9);
  EXPECT_NEAR(rope->inv_freq[16], 5.809475e-4, 1e-10);
  EXPECT_NEAR(rope->magnitude, 1.3465736, 1e-6);
  file.writer.set("llama.rope.scaling.attn_factor", 0.5f);
  rope = file.read(64);
  ASSERT_TRUE(rope);
  EXPECT_NEAR(rope->magnitude, 0.5 * 1.3465736, 1e-6);
}

TEST(GgufRope, divides_by_the_tensor) {
  Gguf file;
  const float divisors[] = {1, 2, 8, 32};
  file.writer.add("rope_freqs.weight", {4}, quant_f32, std::span<const float>(divisors));
  const auto rope = file.read(8);
  ASSERT_TRUE(rope) << rope.error().message;
  for (int i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(rope->inv_freq[i], plain(i, 8, 10000) / divisors[i]);
}

TEST(GgufRope, refuses_what_is_out_of_range) {
  const auto error = [](auto&& change, int head_width = 64) {
    Gguf file;
    change(file.writer);
    const auto rope = file.read(head_width);
    return rope ? std::string() : rope.error().message;
  };
  EXPECT_EQ(error([](gguf::Writer& w) { w.set("llama.rope.dimension_count", 4096u); }),
            "llama.rope.dimension_count: expected an integer of 2 to 64, found 4096");
  EXPECT_NE(error([](gguf::Writer& w) { w.set("llama.rope.dimension_count", 5u); }), "");
  EXPECT_NE(error([](gguf::Writer& w) { w.set("llama.rope.freq_base", 0.f); }), "");
  EXPECT_NE(error([](gguf::Writer& w) { w.set("llama.rope.freq_base", NAN); }), "");
  EXPECT_NE(error([](gguf::Writer& w) { w.set("llama.rope.scaling.type", "longrope"); }), "");
  EXPECT_NE(error([](gguf::Writer& w) { w.set("llama.rope.scaling.type", 3u); }), "");
  EXPECT_NE(error([](gguf::Writer& w) { w.set("llama.rope.scaling.factor", -1.f); }), "");
  const float bad[] = {1, 0};
  EXPECT_NE(error([&](gguf::Writer& w) { w.add("rope_freqs.weight", {2}, quant_f32, std::span<const float>(bad)); }, 4),
            "");
  EXPECT_NE(error([&](gguf::Writer& w) { w.add("rope_freqs.weight", {2}, quant_f32, std::span<const float>(bad)); }, 8),
            "");
}

// The divisors that converters store for Llama 3.1, published to seven digits: unchanged up to pair 28, by 8 from 35
// on.
TEST_F(HfRope, llama3_has_three_bands) {
  const auto rope =
      read(R"("rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})",
           128);
  ASSERT_TRUE(rope) << rope.error().message;
  const auto divisor = [&](int i) { return plain(i, 128, 5e5) / rope->inv_freq[i]; };
  EXPECT_NEAR(divisor(28), 1, 1e-12);
  EXPECT_NEAR(divisor(29), 1.207484, 1e-6);
  EXPECT_NEAR(divisor(31), 2.026313, 1e-6);
  EXPECT_NEAR(divisor(34), 5.257327, 1e-6);
  EXPECT_NEAR(divisor(35), 8, 1e-12);
  EXPECT_NEAR(divisor(63), 8, 1e-12);
}

TEST_F(HfRope, yarn_need_not_round_its_ramp) {
  const auto rope =
      read(R"("rope_parameters": {"rope_theta": 150000.0, "rope_type": "yarn", "factor": 32.0, "truncate": false,
      "original_max_position_embeddings": 4096})",
           64);
  ASSERT_TRUE(rope) << rope.error().message;
  EXPECT_NEAR(rope->inv_freq[9], 3.170570e-2, 1e-8);
  EXPECT_NEAR(rope->inv_freq[16], 4.564839e-4, 1e-10);
  EXPECT_NEAR(rope->inv_freq[18], 3.830881e-5, 1e-11);
  EXPECT_NEAR(rope->magnitude, 1.3465736, 1e-6);
}

TEST_F(HfRope, yarn_magnitude_is_stated_or_a_ratio) {
  const std::string start =
      R"("rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, )";
  EXPECT_FLOAT_EQ(read(start + R"("attention_factor": 1.25})", 64)->magnitude, 1.25f);
  EXPECT_FLOAT_EQ(read(start + R"("mscale": 0.707, "mscale_all_dim": 0.707})", 64)->magnitude, 1.f);
  const double m = std::log(40.);
  EXPECT_FLOAT_EQ(read(start + R"("mscale": 1.0, "mscale_all_dim": 0.707})", 64)->magnitude,
                  static_cast<float>((0.1 * m + 1) / (0.0707 * m + 1)));
}

TEST_F(HfRope, old_and_new_settings_mean_the_same) {
  const auto old =
      read(R"("rope_theta": 2e6, "rope_scaling": {"type": "linear", "factor": 3.0}, "partial_rotary_factor": 0.5)", 32);
  const auto now = read(
      R"("rope_parameters": {"rope_theta": 2e6, "rope_type": "linear", "factor": 3.0, "partial_rotary_factor": 0.5})",
      32);
  ASSERT_TRUE(old && now);
  EXPECT_EQ(old->inv_freq.size(), 8u);
  EXPECT_EQ(old->inv_freq, now->inv_freq);
  EXPECT_DOUBLE_EQ(old->inv_freq[2], plain(2, 16, 2e6) / 3);
}

TEST_F(HfRope, null_scaling_is_none) {
  const auto rope = read(R"("rope_theta": 10000, "rope_scaling": null)", 16);
  ASSERT_TRUE(rope) << rope.error().message;
  EXPECT_DOUBLE_EQ(rope->inv_freq[1], plain(1, 16, 10000));
}

}  // namespace
}  // namespace quern
