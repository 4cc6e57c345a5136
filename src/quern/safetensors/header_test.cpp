// SPDX-License-Identifier: Apache-2.0
// One file's header: what it means, and every way in which it can be wrong.
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "quern/safetensors/folder.h"
#include "quern/safetensors/testing.h"

namespace quern::safetensors {
namespace {

using testing::file_of;

std::string error_of(std::string_view header, size_t data_bytes) {
  const auto bytes = file_of(header, std::vector<std::byte>(data_bytes));
  auto tensors = parse_file(bytes);
  return tensors ? "" : tensors.error().message;
}

bool accepted(std::string_view header, size_t data_bytes) { return error_of(header, data_bytes).empty(); }

TEST(SafetensorsHeader, gives_names_formats_shapes_and_bytes) {
  std::vector<std::byte> data(8 + 4 + 3);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  const auto bytes = file_of(
      R"({"__metadata__":{"format":"pt"},"b\u00e9":{"dtype":"U8","shape":[3],"data_offsets":[12,15]},)"
      R"("w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"s":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}   )",
      data);
  auto parsed = parse_file(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message;
  ASSERT_EQ(parsed->size(), 3u);
  const Tensor &w = (*parsed)[0], &s = (*parsed)[1], &b = (*parsed)[2];
  EXPECT_EQ(w.name, "w");
  EXPECT_EQ(w.dtype, "BF16");
  EXPECT_EQ(w.view.type, &quant_bf16);
  EXPECT_EQ(w.view.shape, (Shape{2, 2}));
  EXPECT_EQ(s.view.type, &quant_f32);
  EXPECT_EQ(s.view.shape, (Shape{1}));
  EXPECT_EQ(b.name, "b\u00e9");
  EXPECT_EQ(b.view.type, nullptr);
  ASSERT_EQ(b.view.data.size(), 3u);
  EXPECT_EQ(b.view.data[0], std::byte{12});
}

TEST(SafetensorsHeader, sizes_come_fastest_first_and_beyond_four_are_folded) {
  const auto bytes = file_of(R"({"m":{"dtype":"U8","shape":[5,7],"data_offsets":[0,35]},)"
                             R"("v":{"dtype":"U8","shape":[6,5,2,3,4],"data_offsets":[35,755]}})",
                             std::vector<std::byte>(755));
  auto parsed = parse_file(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ((*parsed)[0].view.shape, (Shape{7, 5}));
  EXPECT_EQ((*parsed)[1].view.shape, (Shape{4, 3, 2, 30}));
}

TEST(SafetensorsHeader, empty_and_sub_byte_tensors_are_counted_in_bits) {
  EXPECT_TRUE(accepted("{}", 0));
  EXPECT_TRUE(accepted(R"({"e":{"dtype":"F32","shape":[0,1099511627776],"data_offsets":[0,0]}})", 0));
  EXPECT_TRUE(accepted(R"({"f":{"dtype":"F4","shape":[6],"data_offsets":[0,3]}})", 3));
  EXPECT_FALSE(accepted(R"({"f":{"dtype":"F4","shape":[5],"data_offsets":[0,3]}})", 3));
  EXPECT_TRUE(accepted(R"({"f":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3));
  EXPECT_TRUE(accepted(R"({"c":{"dtype":"C64","shape":[2],"data_offsets":[0,16]}})", 16));
}

TEST(SafetensorsHeader, errors_name_the_tensor_and_what_is_wrong) {
  struct Case {
    std::string_view header;
    size_t data;
    std::string_view message;
  };
  const Case cases[] = {
      {"[]", 0, "header: expected a JSON object that starts with {"},
      {" {}", 0, "header: expected a JSON object that starts with {"},
      {R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4,
       "a: dtype: expected a known number format, found F31"},
      {R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}})", 4,
       "a: data_offsets: expected 64 bits for F64 of [1], found 4 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4,
       "a: data_offsets: expected [begin, end], found [4,0]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4,
       "a: data_offsets: expected [begin, end], found [-4,0]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}})", 4,
       "a: data_offsets: expected [begin, end], found [0,4.0]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8,
       "expected 4 bytes of data behind the header, found 8"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4,
       "a: data_offsets: expected at most 4 bytes of data, found 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8,
       "a: data_offsets: expected data from byte 0, found 4: a hole"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "b: data_offsets: expected data from byte 4, found 0: an overlap"},
      {R"({"a":{"dtype":"F32","shape":[-1,4],"data_offsets":[0,0]}})", 0,
       "a: shape: expected sizes up to 2^40, found [-1,4]"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
       "a: shape: expected up to 2^48 elements, found [4294967296,4294967296]"},
      {R"({"a":{"dtype":"F32","shape":3,"data_offsets":[0,0]}})", 0,
       "a: shape: expected a list of up to 16 sizes, found 3"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 0,
       R"(a: expected dtype, shape and data_offsets, found {"dtype":"F32","shape":[1]})"},
      {R"({"a":7})", 0, "a: expected dtype, shape and data_offsets, found 7"},
      {R"({"__metadata__":{"format":1}})", 0, R"(__metadata__: expected an object of strings, found {"format":1})"},
      {"{\"\x1b[2J\":7}", 0, ""},  // control bytes are no JSON
      {R"({"\u001b[2J":7})", 0, R"("\u001b[2J": expected dtype, shape and data_offsets, found 7)"},
  };
  for (const Case& c : cases) {
    const std::string found = error_of(c.header, c.data);
    if (c.message.empty())
      EXPECT_NE(found, "") << c.header;
    else
      EXPECT_EQ(found, c.message) << c.header;
  }
}

TEST(SafetensorsHeader, duplicates_depth_and_lengths_are_refused) {
  const std::string entry = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_TRUE(accepted("{" + entry + "}", 4));
  EXPECT_FALSE(accepted("{" + entry + "," + entry + "}", 4));
  EXPECT_FALSE(accepted("{" + entry + "} {}", 4));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"({"a":)";
  EXPECT_FALSE(accepted(deep, 0));
  for (uint64_t length : {uint64_t{1} << 63, ~uint64_t{0}, uint64_t{200'000'000}, uint64_t{100'000'001}, uint64_t{3}}) {
    std::vector<std::byte> bytes(8 + 2);
    std::memcpy(bytes.data(), &length, 8);
    std::memcpy(bytes.data() + 8, "{}", 2);
    EXPECT_FALSE(parse_file(bytes)) << length;
  }
}

// Small text, large document: refused before anything is built from it.
TEST(SafetensorsHeader, the_number_of_values_is_limited) {
  std::string many = R"({"a":[)";
  for (int i = 0; i < 8'000'000; ++i) many += "0,";
  many += "0]}";
  EXPECT_EQ(error_of(many, 0), "header: expected at most 8000000 values, found more");
}

TEST(SafetensorsHeader, a_pointer_of_git_lfs_is_called_by_name) {
  const std::string_view text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
  auto parsed = parse_file(std::as_bytes(std::span(text)));
  ASSERT_FALSE(parsed);
  EXPECT_NE(parsed.error().message.find("Git LFS pointer"), std::string::npos);
}

TEST(SafetensorsHeader, refuses_every_truncation) {
  const auto bytes = file_of(R"({"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}})", std::vector<std::byte>(6));
  ASSERT_TRUE(parse_file(bytes));
  for (size_t n = 0; n < bytes.size(); ++n) {
    // A copy of exactly n bytes, so that a sanitizer sees any read beyond them.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + n);
    EXPECT_FALSE(parse_file(cut)) << n;
  }
}

// One tensor of random sizes: accepted if and only if its bits, counted in 128 bits, are what the offsets say.
TEST(SafetensorsHeader, size_arithmetic_never_wraps) {
  std::mt19937_64 random(3);
  const std::pair<const char*, int> dtypes[] = {{"U8", 8},   {"BF16", 16}, {"F32", 32},
                                                {"F64", 64}, {"F4", 4},    {"F6_E3M2", 6}};
  int accepted_ones = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint64_t> sizes(random() % 6);
    for (uint64_t& n : sizes) n = random() % 2 ? random() % 9 : (uint64_t{1} << random() % 63) + random() % 3 - 1;
    const auto& [name, bits] = dtypes[random() % std::size(dtypes)];
    __int128 product = 1;  // of the sizes that are not 0: beyond 2^48 refused
    bool within = true, empty = false;
    for (uint64_t n : sizes) {
      within = within && n <= uint64_t{1} << 40;
      empty = empty || n == 0;
      if (within) product *= std::max<uint64_t>(n, 1);
      within = within && product <= __int128{1} << 48;
    }
    const __int128 total = empty || !within ? 0 : product * bits;
    const bool small = within && total <= 8 * 4096;
    const size_t data = small && random() % 4 ? static_cast<size_t>((total + 7) / 8) : random() % 64;
    const bool fits = within && total % 8 == 0 && total / 8 == static_cast<__int128>(data);
    const std::string header = fmt::format(R"({{"t":{{"dtype":"{}","shape":[{}],"data_offsets":[0,{}]}}}})", name,
                                           fmt::join(sizes, ","), data);
    ASSERT_EQ(accepted(header, data), fits) << header;
    accepted_ones += fits;
  }
  EXPECT_GT(accepted_ones, 1000);
}

TEST(SafetensorsHeader, survives_any_changed_byte) {
  const auto bytes = file_of(
      R"({"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[6,14]}})",
      std::vector<std::byte>(14));
  std::mt19937 random(4);
  for (int i = 0; i < 20000; ++i) {
    auto bad = bytes;
    for (unsigned k = 0; k <= random() % 3; ++k) {
      auto& b = bad[random() % (bad.size() - 14)];
      b = random() % 2 ? static_cast<std::byte>(random())
                       : static_cast<std::byte>("0123456789[]{},:\" -e"[random() % 20]);
    }
    auto parsed = parse_file(bad);
    if (!parsed) continue;
    size_t total = 0;
    for (const Tensor& t : *parsed) {
      ASSERT_TRUE(t.view.data.empty() || (t.view.data.data() >= bad.data() &&
                                          t.view.data.data() + t.view.data.size() <= bad.data() + bad.size()));
      total += t.view.data.size();
    }
    EXPECT_EQ(total, 14u);
  }
}

TEST(SafetensorsHeader, a_hundred_thousand_tensors) {
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i)
    header += fmt::format(R"({}"model.layers.{}.weight":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}})",
                          i ? "," : "", i, i, i + 1);
  const auto bytes = file_of(header + "}", std::vector<std::byte>(100'000));
  auto parsed = parse_file(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->size(), 100'000u);
  EXPECT_EQ((*parsed)[77'777].name, "model.layers.77777.weight");
}

}  // namespace
}  // namespace quern::safetensors
