// SPDX-License-Identifier: Apache-2.0
// Files that no writer makes: what the parser says to each.
#include "quern/gguf/parser.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace quern::gguf {
namespace {

/// A file put together by hand, right or wrong.
class Raw {
 public:
  template <typename T>
    requires std::is_arithmetic_v<T>
  Raw& put(T value) {
    return put(std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
  }
  Raw& put(std::string_view bytes) {
    bytes_.append(bytes);
    return *this;
  }
  Raw& string(std::string_view text) { return put<uint64_t>(text.size()).put(text); }
  Raw& key(std::string_view name, ValueType type) { return string(name).put(static_cast<uint32_t>(type)); }
  /// Directory entry of a row of `elements` numbers.
  Raw& tensor(std::string_view name, uint64_t elements, uint32_t type, uint64_t offset) {
    return string(name).put<uint32_t>(1).put(elements).put(type).put(offset);
  }
  Raw& data(size_t bytes, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment + bytes);
    return *this;
  }
  std::vector<std::byte> bytes() const {
    const auto* p = reinterpret_cast<const std::byte*>(bytes_.data());
    return {p, p + bytes_.size()};
  }
  /// What the parser says; empty if nothing.
  std::string error() const {
    const auto copy = bytes();
    auto file = File::parse(copy);
    return file ? "" : file.error().message;
  }

 private:
  std::string bytes_;
};

Raw start(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
  return Raw().put<uint32_t>(0x46554747).put(version).put(tensors).put(entries);
}

TEST(GgufParser, versions_2_and_3_are_the_same_others_are_named) {
  EXPECT_EQ(start(0, 0, 2).error(), "");
  EXPECT_EQ(start(0, 0, 3).error(), "");
  for (uint32_t version : {0u, 1u, 4u, 99u})
    EXPECT_EQ(start(0, 0, version).error(), fmt::format("version: expected 2 or 3, found {}", version));
  for (uint32_t version : {0x03000000u, 0x02000000u})
    EXPECT_EQ(start(0, 0, version).error(), "big-endian GGUF is not supported");
  EXPECT_EQ(Raw().put("version https://git-lfs.github.com/spec/v1\noid sha256:0\n").error(),
            "expected a GGUF file, found a Git LFS pointer: the content was not downloaded");
  EXPECT_EQ(Raw().put("\x1b[2J bytes of something else").error(),
            "magic: expected GGUF, found \"\\u001b[2J\": no GGUF file");
}

TEST(GgufParser, counts_are_held_against_the_bytes_that_are_left) {
  for (uint64_t n : {uint64_t{1}, uint64_t{1} << 31, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_NE(start(n, 0).error().find("tensor count"), std::string::npos) << n;
    EXPECT_NE(start(0, n).error().find("metadata count"), std::string::npos) << n;
    EXPECT_NE(start(0, 1).key("k", ValueType::array).put<uint32_t>(4).put(n).error(), "") << n;
    EXPECT_NE(start(0, 1).key("k", ValueType::array).put<uint32_t>(8).put(n).error(), "") << n;
    EXPECT_NE(start(0, 1).key("k", ValueType::string).put(n).error(), "") << n;
  }
}

TEST(GgufParser, wrong_values_are_refused_by_key) {
  EXPECT_EQ(start(0, 1).key("k", static_cast<ValueType>(13)).put<uint64_t>(0).error(),
            "k: expected a value type from 0 to 12, found 13");
  EXPECT_EQ(start(0, 1).key("k", ValueType::boolean).put<uint8_t>(2).error(), "k: expected a bool of 0 or 1, found 2");
  EXPECT_EQ(start(0, 1)
                .key("k", ValueType::array)
                .put<uint32_t>(7)
                .put<uint64_t>(3)
                .put(std::string_view("\0\1\2", 3))
                .error(),
            "k: expected bools of 0 or 1, found another number");
  Raw nested = start(0, 1).key("k", ValueType::array);
  for (int i = 0; i < 10000; ++i) nested.put<uint32_t>(9).put<uint64_t>(1);
  EXPECT_EQ(nested.error(), "k: expected an array of numbers or strings, found elements of type 9");
  EXPECT_EQ(start(0, 2).key("k", ValueType::u8).put<uint8_t>(0).key("k", ValueType::i8).put<uint8_t>(0).error(),
            "metadata key k stands twice");
  EXPECT_NE(start(0, 1).key("", ValueType::u8).put<uint8_t>(0).error(), "");
  EXPECT_EQ(start(0, 1).key(std::string(65535, 'k'), ValueType::u8).put<uint8_t>(0).error(), "");
  EXPECT_EQ(start(0, 1).key(std::string(65536, 'k'), ValueType::u8).put<uint8_t>(0).error(),
            "metadata key 0: expected 1 to 65535 bytes, found 65536");
}

TEST(GgufParser, an_array_may_be_empty) {
  const auto bytes = start(0, 2)
                         .key("s", ValueType::array)
                         .put<uint32_t>(8)
                         .put<uint64_t>(0)
                         .key("n", ValueType::array)
                         .put<uint32_t>(4)
                         .put<uint64_t>(0)
                         .bytes();
  auto file = File::parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->find("s")->size(), 0);
  EXPECT_FALSE(file->find("s")->string(0));
  EXPECT_FALSE(file->find("n")->integer(0));
}

TEST(GgufParser, integers_are_read_liberally) {
  const auto bytes = start(0, 6)
                         .key("u8", ValueType::u8)
                         .put<uint8_t>(255)
                         .key("i64", ValueType::i64)
                         .put<int64_t>(INT64_MIN)
                         .key("u64", ValueType::u64)
                         .put<uint64_t>(INT64_MAX)
                         .key("more", ValueType::u64)
                         .put<uint64_t>(uint64_t{1} << 63)
                         .key("bool", ValueType::boolean)
                         .put<uint8_t>(1)
                         .key("f64", ValueType::f64)
                         .put<double>(2.0)
                         .bytes();
  auto file = File::parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(*file->integer("u8"), 255);
  EXPECT_EQ(*file->integer("i64"), INT64_MIN);
  EXPECT_EQ(*file->integer("u64"), INT64_MAX);
  EXPECT_FALSE(file->integer("more"));
  EXPECT_EQ(*file->integer("bool"), 1);
  EXPECT_FALSE(file->find("u8")->boolean());
  EXPECT_FALSE(file->integer("f64"));  // no integer, though its value is one
  EXPECT_EQ(*file->number("f64"), 2.0);
  EXPECT_EQ(*file->number("u8"), 255.0);
}

TEST(GgufParser, alignment_is_a_power_of_two) {
  const auto with = [](uint32_t alignment, uint64_t offset, size_t data_alignment) {
    return start(1, 1)
        .key("general.alignment", ValueType::u32)
        .put(alignment)
        .tensor("t", 2, 0, offset)
        .data(offset + 8, data_alignment)
        .error();
  };
  for (uint32_t a : {8u, 32u, 64u, 4096u}) EXPECT_EQ(with(a, a, a), "") << a;
  for (uint32_t a : {0u, 3u, 24u, 1u << 31, ~0u})
    EXPECT_EQ(with(a, 0, 32), fmt::format("general.alignment: expected a power of two from 8, found {}", a));
  EXPECT_EQ(with(64, 32, 64), "t: expected an offset of a multiple of 64, found 32");
  EXPECT_NE(start(0, 1).key("general.alignment", ValueType::string).string("32").error(), "");
}

TEST(GgufParser, tensors_lie_inside_the_file_and_not_over_each_other) {
  EXPECT_EQ(start(2, 0).tensor("b", 8, 0, 32).tensor("a", 8, 0, 0).data(64).error(), "");   // any order
  EXPECT_EQ(start(2, 0).tensor("a", 8, 0, 0).tensor("b", 8, 0, 96).data(128).error(), "");  // a hole
  EXPECT_EQ(start(1, 0).tensor("a", 8, 0, 0).data(1000).error(), "");                       // bytes behind
  EXPECT_EQ(start(2, 0).tensor("a", 9, 0, 0).tensor("b", 8, 0, 32).data(64).error(), "a and b lie over each other");
  EXPECT_EQ(start(2, 0).tensor("a", 8, 0, 0).tensor("a", 8, 0, 32).data(64).error(), "tensor a stands twice");
  EXPECT_EQ(start(1, 0).tensor("a", 8, 0, 0).data(31).error(),
            "a: 32 bytes at offset 0 lie beyond the 31 bytes of data in the file");
  for (uint64_t offset : {uint64_t{1} << 40, uint64_t{1} << 63, ~uint64_t{31}})
    EXPECT_NE(start(1, 0).tensor("a", 8, 0, offset).data(64).error().find("lie beyond"), std::string::npos) << offset;
}

TEST(GgufParser, tensor_names_and_ranks_have_limits) {
  EXPECT_EQ(start(1, 0).tensor(std::string(64, 'n'), 1, 0, 0).data(4).error(), "");
  EXPECT_NE(start(1, 0).tensor(std::string(65, 'n'), 1, 0, 0).data(4).error(), "");
  EXPECT_NE(start(1, 0).tensor("", 1, 0, 0).data(4).error(), "");
  for (uint32_t rank : {0u, 5u, ~0u})
    EXPECT_EQ(start(1, 0).string("t").put(rank).put(std::string(200, '\1')).error(),
              fmt::format("t: expected 1 to 4 dimensions, found {}", rank));
  EXPECT_EQ(start(1, 0).tensor("t", 255, 12, 0).data(144).error(),
            "t: expected rows of whole Q4_K blocks of 256, found rows of 255");
}

TEST(GgufParser, types_of_others_are_named) {
  const std::pair<uint32_t, std::string> types[] = {{16, "type 16 (IQ2_XXS)"},
                                                    {34, "type 34 (TQ1_0)"},
                                                    {40, "type 40 (NVFP4)"},
                                                    {26, "type 26 (I32)"},
                                                    {4, "type 4 (Q4_2, since removed)"},
                                                    {140, "type 140 (of the fork ik_llama.cpp)"},
                                                    {~0u, "unknown type 4294967295"}};
  for (const auto& [id, name] : types)
    EXPECT_EQ(start(1, 0).tensor("t", 256, id, 0).data(4096).error(), "t: " + name + " is not supported");
}

TEST(GgufParser, names_in_messages_stay_on_one_line) {
  EXPECT_EQ(start(0, 1).key("a\nb", ValueType::boolean).put<uint8_t>(2).error(),
            "\"a\\nb\": expected a bool of 0 or 1, found 2");
}

// One part's bytes are not the model: whoever parses bytes gets all of it or an error.
TEST(GgufParser, bytes_of_one_part_alone_are_refused) {
  const auto part = [](uint16_t number, uint16_t count) {
    return start(0, 2).key("split.no", ValueType::u16).put(number).key("split.count", ValueType::u16).put(count);
  };
  EXPECT_EQ(part(0, 1).error(), "");
  EXPECT_EQ(part(1, 3).error(), "split.count: expected a whole file, found part 2 of 3");
  EXPECT_EQ(part(3, 3).error(), "split.no: expected less than 3, found 3");
}

TEST(GgufParser, a_vocabulary_of_250000_tokens) {
  constexpr int kTokens = 250'000;
  Raw raw = start(0, 1).key("tokens", ValueType::array).put<uint32_t>(8).put<uint64_t>(kTokens);
  for (int i = 0; i < kTokens; ++i) raw.string(std::to_string(i));
  const auto bytes = raw.bytes();
  auto file = File::parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  const Value* tokens = file->find("tokens");
  ASSERT_EQ(tokens->size(), kTokens);
  for (int i = 0; i < kTokens; i += 777) ASSERT_EQ(tokens->string(i), std::to_string(i));
}

}  // namespace
}  // namespace quern::gguf
