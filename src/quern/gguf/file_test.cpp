// SPDX-License-Identifier: Apache-2.0
#include "quern/gguf/file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "quern/gguf/writer.h"

namespace quern::gguf {
namespace {

namespace fs = std::filesystem;

Writer small() {
  Writer w;
  const std::vector<std::string> tokens = {"a", "", "long token", "\xe2\x96\x81"};
  const std::vector<int32_t> types = {1, 3, 1, 6};
  w.set("general.architecture", "llama")
      .set("llama.block_count", uint32_t{2})
      .set("x.signed", int32_t{-5})
      .set("x.big", uint64_t{1} << 63);
  w.set("x.eps", 1e-5f)
      .set("x.yes", true)
      .set("tokens", tokens)
      .set("types", types)
      .set_bools("flags", {true, false, true});
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  w.add("w", {3, 2}, quant_f32, std::span<const float>(values));
  w.add("h", {3, 2}, quant_f16, std::span<const float>(values));
  w.add("q", {32, 1, 2}, *find_quant_type("Q8_0"), std::vector<std::byte>(68, std::byte{1}));
  return w;
}

std::vector<std::byte> small_bytes() { return *small().bytes(); }

std::string error_of(std::span<const std::byte> bytes) {
  auto file = File::parse(bytes);
  return file ? "" : file.error().message;
}

TEST(GgufFile, reads_what_was_written) {
  const auto bytes = small_bytes();
  auto parsed = File::parse(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message;
  const File& f = *parsed;
  EXPECT_EQ(f.version(), 3u);
  EXPECT_EQ(*f.string("general.architecture"), "llama");
  EXPECT_EQ(*f.integer("llama.block_count"), 2);
  EXPECT_EQ(*f.integer("x.signed"), -5);
  EXPECT_FALSE(f.integer("x.big"));  // beyond 63 bits
  EXPECT_FLOAT_EQ(static_cast<float>(*f.number("x.eps")), 1e-5f);
  EXPECT_EQ(f.find("x.yes")->boolean(), true);
  EXPECT_EQ(f.find("tokens")->size(), 4);
  EXPECT_EQ(f.find("tokens")->string(3), "\xe2\x96\x81");
  EXPECT_FALSE(f.find("tokens")->string(4));
  EXPECT_FALSE(f.find("tokens")->string(-1));
  EXPECT_FALSE(f.find("tokens")->integer(0));
  EXPECT_EQ(f.find("types")->integer(1), 3);
  EXPECT_EQ(f.find("flags")->boolean(1), false);
  EXPECT_EQ(f.find("nothing"), nullptr);
  float row[3];
  for (const char* name : {"w", "h"}) {
    f.find_tensor(name)->decode_row(1, row);
    EXPECT_EQ(row[0], 4);
    EXPECT_EQ(row[2], 6);
  }
  EXPECT_EQ(f.find_tensor("q")->shape, (Shape{32, 1, 2}));
}

TEST(GgufFile, errors_name_key_expected_and_found) {
  const auto bytes = small_bytes();
  const File f = *File::parse(bytes);
  EXPECT_EQ(f.integer("general.architecture").error().message,
            "general.architecture: expected an integer, found string");
  EXPECT_EQ(f.string("missing").error().message, "missing: expected a string, found no such key");
}

TEST(GgufFile, copies_metadata_of_another_file) {
  const auto bytes = small_bytes();
  const File f = *File::parse(bytes);
  Writer w;
  for (const Entry& entry : f.metadata()) w.copy(entry);
  for (const Tensor& t : f.tensors())
    w.add(t.name, t.view.shape, *t.view.type, std::vector<std::byte>(t.view.data.begin(), t.view.data.end()));
  EXPECT_EQ(*w.bytes(), bytes);
}

// Every cut must be refused: the last tensor's bytes end the file but for its padding.
TEST(GgufFile, refuses_every_truncation) {
  const auto bytes = small_bytes();
  const size_t end = bytes.size() - (96 - 68);
  for (size_t n = 0; n < bytes.size(); ++n) {
    // A copy of exactly n bytes, so that a sanitizer sees any read beyond them.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + n);
    EXPECT_EQ(File::parse(cut).has_value(), n >= end) << n;
  }
}

TEST(GgufFile, survives_any_changed_byte) {
  const auto bytes = small_bytes();
  std::mt19937 rng(1);
  for (int i = 0; i < 20000; ++i) {
    auto bad = bytes;
    for (unsigned k = 0; k <= rng() % 3; ++k) bad[rng() % 500] = static_cast<std::byte>(rng() % 4 ? rng() : 0xFF);
    auto file = File::parse(bad);
    if (!file) continue;
    for (const Tensor& t : file->tensors()) {
      ASSERT_GE(t.view.data.data(), bad.data());
      ASSERT_LE(t.view.data.data() + t.view.data.size(), bad.data() + bad.size());
    }
  }
}

/// A header with one tensor of the given directory entry and `data` bytes behind.
std::vector<std::byte> one_tensor(const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset, size_t data) {
  std::vector<std::byte> out;
  const auto put = [&](auto v) {
    const auto* p = reinterpret_cast<const std::byte*>(&v);
    out.insert(out.end(), p, p + sizeof v);
  };
  put(uint32_t{0x46554747}), put(uint32_t{3}), put(uint64_t{1}), put(uint64_t{0}), put(uint64_t{1}), put('t');
  put(static_cast<uint32_t>(dims.size()));
  for (uint64_t d : dims) put(d);
  put(type), put(offset);
  out.resize((out.size() + 31) / 32 * 32 + data);
  return out;
}

// Accepted if and only if it fits, judged in 128 bits.
TEST(GgufFile, size_arithmetic_never_wraps) {
  std::mt19937_64 rng(2);
  const uint32_t types[] = {0, 1, 2, 8, 12, 14, 30, 39};
  int accepted = 0;
  for (int i = 0; i < 30000; ++i) {
    std::vector<uint64_t> dims(1 + rng() % 4);
    for (uint64_t& d : dims) {
      const int k = static_cast<int>(rng() % 65);
      d = rng() % 3 == 0 ? rng() % 600 : (k == 64 ? 0 : uint64_t{1} << k) + rng() % 3 - 1;
    }
    const uint32_t type = types[rng() % std::size(types)];
    const uint64_t offset = rng() % 2 ? 0 : rng() % 2 ? 32 * (rng() % 8) : rng();
    const size_t data = rng() % 4096;
    const QuantType* q = find_quant_type(type);
    ASSERT_NE(q, nullptr);
    __int128 elements = 1;
    bool huge = false;
    for (uint64_t d : dims) {
      huge |= d == 0 || d > uint64_t{1} << 40;
      if (!huge) elements *= d;
      huge |= elements > __int128{1} << 60;
    }
    const bool fits = !huge && dims[0] % q->block_elems == 0 && offset % 32 == 0 &&
                      elements / q->block_elems * q->block_bytes + offset <= static_cast<__int128>(data);
    const bool got = File::parse(one_tensor(dims, type, offset, data)).has_value();
    ASSERT_EQ(got, fits) << dims[0] << " type " << type << " offset " << offset << " data " << data;
    accepted += got;
  }
  EXPECT_GT(accepted, 100);
}

TEST(GgufFile, overlapping_tensors_are_refused) {
  auto bytes = small_bytes();
  const std::string marker =
      std::string("h") + std::string("\x02\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0", 24);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t at = text.find(marker);
  ASSERT_NE(at, text.npos);
  std::memset(bytes.data() + at + marker.size(), 0, 8);  // offset 0: over `w`
  EXPECT_NE(error_of(bytes).find("lie over each other"), std::string::npos) << error_of(bytes);
}

TEST(GgufFile, foreign_types_and_formats_are_named) {
  EXPECT_NE(error_of(one_tensor({256}, 16, 0, 100)).find("IQ2_XXS"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({256}, 26, 0, 2000)).find("I32"), std::string::npos);
  EXPECT_NE(error_of(std::as_bytes(std::span("FUGG0000000000000000000000"))).find("big-endian"), std::string::npos);
  EXPECT_NE(error_of(std::as_bytes(std::span("GGJT0000000000000000000000"))).find("no GGUF"), std::string::npos);
  const uint32_t old[] = {0x46554747, 1, 0, 0, 0, 0};
  EXPECT_EQ(error_of(std::as_bytes(std::span(old))), "version: expected 2 or 3, found 1");
}

class GgufSplit : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("quern_split_" + std::to_string(::getpid()));
    fs::create_directories(dir_);
    write(0, 2, 3, {"a", "b"});
    write(1, 2, 3, {"c"});
  }
  void TearDown() override { fs::remove_all(dir_); }

  fs::path path(int i) const { return dir_ / fmt::format("m-{:05}-of-00002.gguf", i + 1); }
  void write(int number, int count, int total, const std::vector<std::string>& names, int at = -1) {
    Writer w;
    if (number == 0) w.set("general.architecture", "llama");
    w.set("split.no", static_cast<uint32_t>(number))
        .set("split.count", static_cast<uint32_t>(count))
        .set("split.tensors.count", int32_t{total});
    const std::vector<float> values(4, static_cast<float>(number));
    for (const auto& name : names) w.add(name, {4}, quant_f32, std::span<const float>(values));
    ASSERT_TRUE(w.write(path(at < 0 ? number : at)));
  }
  fs::path dir_;
};

TEST_F(GgufSplit, any_part_opens_all) {
  for (int i : {0, 1}) {
    auto f = File::open(path(i));
    ASSERT_TRUE(f) << f.error().message;
    EXPECT_EQ(f->tensors().size(), 3u);
    EXPECT_EQ(*f->string("general.architecture"), "llama");
    float row[4];
    f->find_tensor("c")->decode_row(0, row);
    EXPECT_EQ(row[0], 1);
  }
}

TEST_F(GgufSplit, names_tell_all_parts) {
  const auto name = part_name(path(1));
  ASSERT_TRUE(name);
  EXPECT_EQ(name->prefix, "m");
  EXPECT_EQ(name->number, 1);
  EXPECT_EQ(name->count, 2);
  for (const fs::path& given :
       {path(0), path(1), fs::path("m-00002-of-00002.gguf"), dir_ / "" / "m-00001-of-00002.gguf"})
    EXPECT_EQ(part_paths(given), (std::vector<fs::path>{given.parent_path() / "m-00001-of-00002.gguf",
                                                        given.parent_path() / "m-00002-of-00002.gguf"}));
  const auto file = File::open(path(1));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(std::ranges::equal(file->paths(), part_paths(path(1)))) << "spelled in the same way";
  EXPECT_EQ(part_paths("-00001-of-00001.gguf").size(), 1u);
  EXPECT_EQ(part_paths("m-00007-of-65535.gguf").size(), 65535u);
  for (const char* other : {"m.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-00001-of-00002", "m",
                            "m-00001-of-00002.gguf.part", "m-0001-of-0002.gguf", "m-00001-of-99999.gguf", "",
                            "m-+0001-of-00002.gguf", "m_00001-of-00002.gguf", "m--0001-of-00002.gguf"}) {
    EXPECT_FALSE(part_name(other)) << other;
    EXPECT_EQ(part_paths(other), std::vector<fs::path>{other});
  }
}

TEST_F(GgufSplit, a_missing_part_is_named) {
  fs::remove(path(1));
  auto f = File::open(path(0));
  ASSERT_FALSE(f);
  EXPECT_NE(f.error().message.find("m-00002-of-00002.gguf"), std::string::npos) << f.error().message;
}

TEST_F(GgufSplit, parts_that_do_not_belong_together_are_refused) {
  write(0, 2, 3, {"a", "b"}, 1);  // the first part once more
  EXPECT_FALSE(File::open(path(0)));
  write(1, 2, 4, {"a"});  // a name twice
  EXPECT_FALSE(File::open(path(0)));
  write(1, 2, 3, {"c", "d"});  // more tensors than the first says
  EXPECT_FALSE(File::open(path(0)));
}

TEST_F(GgufSplit, every_total_must_be_met) {
  write(1, 2, 4, {"c"});  // the second part says four in all
  auto f = File::open(path(0));
  ASSERT_FALSE(f);
  EXPECT_EQ(f.error().message, path(1).string() + ": split.tensors.count: expected 4 tensors in all parts, found 3");
}

TEST_F(GgufSplit, the_name_must_be_as_the_metadata_says) {
  fs::rename(path(1), dir_ / "other.gguf");
  auto f = File::open(dir_ / "other.gguf");
  ASSERT_FALSE(f);
  EXPECT_EQ(f.error().message,
            (dir_ / "other.gguf").string() +
                ": expected a name that ends in -00002-of-00002.gguf as its metadata says, found other.gguf");
}

TEST(GgufWriter, leaves_nothing_behind_when_it_fails) {
  const fs::path dir = fs::temp_directory_path() / ("quern_writer_" + std::to_string(::getpid()));
  fs::create_directories(dir);
  Writer w;
  w.add("t", {4}, quant_f32, [](std::span<std::byte>) -> Status { return Error{ErrorCode::internal, "no bytes"}; });
  EXPECT_FALSE(w.write(dir / "x.gguf"));
  EXPECT_TRUE(fs::is_empty(dir));
  fs::remove_all(dir);
}

}  // namespace
}  // namespace quern::gguf
