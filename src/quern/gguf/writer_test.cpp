// SPDX-License-Identifier: Apache-2.0
#include "quern/gguf/writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <random>

namespace quern::gguf {
namespace {

TEST(GgufWriter, every_kind_of_value_comes_back) {
  const std::vector<std::string> texts = {"a", "", std::string("n\0l", 3)};
  const std::vector<int32_t> ints = {-1, INT32_MAX};
  const std::vector<uint32_t> unsigned_ints = {0, UINT32_MAX};
  const std::vector<float> floats = {0.5f, -0.0f};
  Writer w;
  w.set("text", "t")
      .set("bool", true)
      .set("u32", uint32_t{7})
      .set("i32", -7)
      .set("u64", UINT64_MAX)
      .set("i64", INT64_MIN);
  w.set("f32", 0.25f)
      .set("f64", 1e300)
      .set("texts", texts)
      .set("ints", ints)
      .set("unsigned", unsigned_ints)
      .set("floats", floats);
  w.set_bools("bools", {true, false}).set("u32", uint32_t{8});  // replaced in its place
  const auto bytes = *w.bytes();
  auto f = File::parse(bytes);
  ASSERT_TRUE(f) << f.error().message;
  ASSERT_EQ(f->metadata().size(), 13u);
  EXPECT_EQ(f->metadata()[2].key, "u32");
  EXPECT_EQ(*f->integer("u32"), 8);
  EXPECT_EQ(*f->string("text"), "t");
  EXPECT_EQ(f->find("bool")->boolean(), true);
  EXPECT_EQ(*f->integer("i32"), -7);
  EXPECT_FALSE(f->integer("u64"));
  EXPECT_EQ(f->find("u64")->type(), ValueType::u64);
  EXPECT_EQ(*f->integer("i64"), INT64_MIN);
  EXPECT_EQ(*f->number("f32"), 0.25);
  EXPECT_EQ(*f->number("f64"), 1e300);
  EXPECT_EQ(f->find("texts")->string(2), texts[2]);
  EXPECT_EQ(f->find("ints")->integer(1), INT32_MAX);
  EXPECT_EQ(f->find("unsigned")->integer(1), UINT32_MAX);
  EXPECT_EQ(f->find("floats")->number(0), 0.5);
  EXPECT_EQ(f->find("bools")->boolean(1), false);
}

// Random files of every weight type, shapes and alignments: what is read is what was written, wherever it lies.
TEST(GgufWriter, random_files_come_back) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    const uint32_t alignment = 8u << random() % 6;
    Writer w(alignment);
    struct Written {
      Shape shape;
      const QuantType* type;
      std::vector<std::byte> bytes;
    };
    std::vector<Written> tensors(random() % 12);
    for (size_t i = 0; i < tensors.size(); ++i) {
      Written& t = tensors[i];
      t.type = quant_table[random() % quant_table_size];
      const auto up_to = [&](int n) { return static_cast<int64_t>(1 + random() % n); };
      t.shape = {t.type->block_elems * up_to(3), up_to(4), up_to(2)};
      t.bytes.resize(t.type->row_bytes(t.shape.columns()) * t.shape.rows());
      for (std::byte& b : t.bytes) b = static_cast<std::byte>(random());
      if (random() % 2) {
        w.add(fmt::format("t{}", i), t.shape, *t.type, t.bytes);
      } else {
        w.add(fmt::format("t{}", i), t.shape, *t.type, [&t](std::span<std::byte> out) -> Status {
          std::memcpy(out.data(), t.bytes.data(), out.size());
          return {};
        });
      }
    }
    const auto bytes = *w.bytes();
    auto f = File::parse(bytes);
    ASSERT_TRUE(f) << f.error().message;
    ASSERT_EQ(f->tensors().size(), tensors.size());
    EXPECT_EQ(bytes.size() % alignment, 0u);
    for (size_t i = 0; i < tensors.size(); ++i) {
      const Tensor& t = f->tensors()[i];
      EXPECT_EQ(t.name, fmt::format("t{}", i));
      EXPECT_EQ(t.view.type, tensors[i].type);
      EXPECT_EQ(t.view.shape, tensors[i].shape);
      EXPECT_EQ((t.view.data.data() - bytes.data()) % alignment, 0);
      ASSERT_TRUE(std::equal(t.view.data.begin(), t.view.data.end(), tensors[i].bytes.begin(), tensors[i].bytes.end()));
    }
  }
}

TEST(GgufWriter, the_file_holds_the_same_as_the_bytes) {
  const auto dir = std::filesystem::temp_directory_path() / fmt::format("quern-writer-same-{}", ::getpid());
  std::filesystem::create_directories(dir);
  Writer w;
  const std::vector<float> values = {1, 2, 3};
  w.set("general.architecture", "llama").add("t", {3}, quant_bf16, std::span<const float>(values));
  ASSERT_TRUE(w.write(dir / "m.gguf"));
  auto f = File::open(dir / "m.gguf");
  ASSERT_TRUE(f) << f.error().message;
  EXPECT_EQ(f->file_bytes(), static_cast<int64_t>(w.bytes()->size()));
  float row[3];
  f->find_tensor("t")->decode_row(0, row);
  EXPECT_EQ(row[2], 3);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace quern::gguf
