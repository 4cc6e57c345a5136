// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/npy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <random>

namespace quern {
namespace {

namespace fs = std::filesystem;

class Npy : public testing::Test {
 protected:
  fs::path folder = fs::temp_directory_path() / ("quern_npy_" + std::to_string(::getpid()));
  void SetUp() override { fs::create_directories(folder); }
  void TearDown() override { fs::remove_all(folder); }
};

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string file_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What numpy 2.1 writes for np.arange(6, dtype='<f4').reshape(2, 3), byte for byte.
TEST_F(Npy, the_header_is_numpys_own) {
  const std::string expected = std::string("\x93NUMPY\x01\x00v\x00", 10) +
                               "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + std::string(58, ' ') +
                               "\n";
  ASSERT_EQ(expected.size(), 128u);
  EXPECT_EQ(npy_header(2, 3).size() % 64, 0u);
  const auto layout = parse_npy(bytes(expected + std::string(24, 'x')));
  ASSERT_TRUE(layout) << layout.error().message;
  EXPECT_EQ(layout->offset, 128u);
  EXPECT_EQ(layout->rows, 2);
  EXPECT_EQ(layout->columns, 3);
}

TEST_F(Npy, what_is_written_reads_back) {
  const fs::path path = folder / "a.npy";
  std::vector<float> rows = {1, 2.5F, -3, 4, 5e-30F, 6e30F};
  {
    auto writer = NpyWriter::create(path, 2, 3);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->write(std::span(rows).first(3)));
    EXPECT_FALSE(fs::exists(path)) << "not before it is complete";
    ASSERT_TRUE(writer->write(std::span(rows).last(3)));
    ASSERT_TRUE(writer->finish());
  }
  const auto matrix = NpyMatrix::open(path);
  ASSERT_TRUE(matrix) << matrix.error().message;
  ASSERT_EQ(matrix->rows(), 2);
  std::vector<float> row(3);
  matrix->copy_row(1, row);
  EXPECT_EQ(std::memcmp(row.data(), rows.data() + 3, 12), 0);
  EXPECT_EQ(file_text(path).size(), 64 * 2 + 24u);
}

TEST_F(Npy, an_unfinished_file_leaves_nothing_behind) {
  {
    auto writer = NpyWriter::create(folder / "a.npy", 2, 3);
    ASSERT_TRUE(writer);
  }
  EXPECT_TRUE(fs::is_empty(folder));
  const auto nowhere = NpyWriter::create(folder / "no/such/a.npy", 1, 1);
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().message.find("no/such/a.npy"), std::string::npos);
}

TEST_F(Npy, no_file_of_another_name_is_touched) {
  std::ofstream(folder / "a.npy.part") << "kept";
  std::ofstream(folder / "a.npy") << "old";
  const std::vector<float> row = {1, 2};
  auto first = NpyWriter::create(folder / "a.npy", 1, 2), second = NpyWriter::create(folder / "a.npy", 1, 2);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(first->write(row) && second->write(row));
  EXPECT_EQ(file_text(folder / "a.npy"), "old");
  ASSERT_TRUE(first->finish() && second->finish());
  EXPECT_EQ(file_text(folder / "a.npy").size(), 128u + 8);
  EXPECT_EQ(file_text(folder / "a.npy.part"), "kept");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 2);
}

TEST_F(Npy, an_open_descriptor_is_written_behind_what_is_there) {
  const fs::path path = folder / "a.npy";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, "first", 5), 5);
  const std::vector<float> row = {1, 2};
  for (const char* names : {"/dev/fd/{}", "/proc/self/fd/{}"}) {
    auto writer = NpyWriter::create(fmt::format(fmt::runtime(names), fd), 1, 2);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->write(row));
    ASSERT_TRUE(writer->finish());
  }
  ::close(fd);
  const std::string text = file_text(path);
  EXPECT_EQ(text.size(), 5 + 2 * (128u + 8));
  EXPECT_TRUE(parse_npy(bytes(text.substr(5, 128 + 8))));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
}

TEST_F(Npy, a_pipe_is_written_directly) {
  const fs::path path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  const std::vector<float> row = {1, 2};
  auto writer = NpyWriter::create(path, 1, 2);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->write(row));
  ASSERT_TRUE(writer->finish());
  std::string got(200, '\0');
  EXPECT_EQ(::read(reader, got.data(), got.size()), 128 + 8);
  ::close(reader);
  EXPECT_TRUE(fs::is_fifo(path));
  EXPECT_FALSE(NpyWriter::create(folder, 1, 2)) << "a folder is neither";
}

TEST_F(Npy, other_layouts_are_refused) {
  const auto with = [](std::string dict) {
    std::string out("\x93NUMPY\x01\x00", 8);
    out += static_cast<char>(dict.size());
    out += '\0';
    return out + dict;
  };
  const std::string data(64, '\0');
  EXPECT_TRUE(parse_npy(bytes(with("{\"shape\": (2,2), 'descr':'<f4','fortran_order':False}") + data)));
  for (const char* dict :
       {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }",
        "{'descr': '<f4', 'fortran_order': False, }", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 2)}",
        "{'x': 1}", "", "{", "{,}", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), } trailing"})
    EXPECT_FALSE(parse_npy(bytes(with(dict) + data))) << dict;
  EXPECT_FALSE(
      parse_npy(bytes(with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }") + data.substr(0, 15))));
}

TEST_F(Npy, no_cut_or_flip_of_the_header_does_harm) {
  const std::string whole = npy_header(2, 3) + std::string(24, '\0');
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(parse_npy(bytes(whole.substr(0, n))));
  std::mt19937 random(3);
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = whole;
    damaged[random() % 128] = static_cast<char>(random());
    const auto layout = parse_npy(bytes(damaged));
    if (layout) {
      EXPECT_LE(layout->offset + layout->rows * layout->columns * 4, damaged.size());
    }
  }
}

}  // namespace
}  // namespace quern
