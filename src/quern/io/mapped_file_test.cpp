// SPDX-License-Identifier: Apache-2.0
#include "quern/io/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>
#include <vector>

#include "quern/io/atomic_file.h"
#include "quern/io/printable.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    dir_ = fs::temp_directory_path() / fmt::format("quern-io-{}-{}", test->name(), ::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  static std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
  std::string content(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  size_t entries() const { return std::distance(fs::directory_iterator(dir_), fs::directory_iterator()); }

  fs::path dir_;
};

TEST_F(Files, mapped_bytes_are_the_files) {
  const fs::path path = dir_ / "file";
  std::ofstream(path, std::ios::binary) << "abc";
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->bytes().size(), 3u);
  EXPECT_EQ(file->bytes()[2], std::byte{'c'});
  MappedFile moved = *std::move(file);
  EXPECT_EQ(moved.bytes().size(), 3u);
  std::ofstream(dir_ / "empty");
  EXPECT_EQ(MappedFile::open(dir_ / "empty")->bytes().size(), 0u);
  fs::create_symlink(path, dir_ / "link");
  EXPECT_EQ(MappedFile::open(dir_ / "link")->bytes().size(), 3u);
}

TEST_F(Files, pages_let_go_leave_memory_and_can_be_read_again) {
  const fs::path path = dir_ / "file";
  const size_t pages = 4096, page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::ofstream(path, std::ios::binary) << std::string(pages * page, 'x');
  const auto file = MappedFile::open(path);
  ASSERT_TRUE(file);
  const auto resident = [] {
    std::ifstream in("/proc/self/smaps_rollup");
    std::string key;
    for (int64_t kib = 0; in >> key; in.ignore(256, '\n'))
      if (key == "Rss:" && in >> kib) return kib * 1024;
    return int64_t{-1};
  };
  EXPECT_EQ(std::count(file->bytes().begin(), file->bytes().end(), std::byte{'x'}), std::ssize(file->bytes()));
  const int64_t before = resident();
  file->let_go(file->bytes().subspan(100, pages * page - 200));
  ASSERT_GT(before, 0);
  EXPECT_LT(resident(), before - static_cast<int64_t>(pages * page / 2));  // other memory comes and goes
  EXPECT_EQ(std::count(file->bytes().begin(), file->bytes().end(), std::byte{'x'}), std::ssize(file->bytes()));
  const std::vector<std::byte> elsewhere(8 * page, std::byte{1});
  file->let_go(elsewhere);
  EXPECT_EQ(std::count(elsewhere.begin(), elsewhere.end(), std::byte{1}), std::ssize(elsewhere));
}

TEST_F(Files, reading_ahead_is_a_wish_and_changes_nothing) {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  for (size_t size : {size_t{1}, 3 * page + 5, size_t{1} << 20}) {
    const fs::path path = dir_ / "file";
    std::ofstream(path, std::ios::binary) << std::string(size, 'x');
    const auto file = MappedFile::open(path);
    ASSERT_TRUE(file);
    const std::byte* const data = file->bytes().data();
    for (size_t first : {size_t{0}, size - 1, size, size / 2})
      for (size_t bytes : {size_t{0}, size_t{1}, size, SIZE_MAX}) file->read_ahead(data + first, bytes);
    const std::vector<std::byte> elsewhere(8 * page, std::byte{1});
    file->read_ahead(elsewhere.data(), elsewhere.size());
    EXPECT_EQ(std::count(file->bytes().begin(), file->bytes().end(), std::byte{'x'}), std::ssize(file->bytes()));
  }
  MappedFile().read_ahead(nullptr, 100);
}

TEST_F(Files, only_regular_files_are_read) {
  ASSERT_EQ(::mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  const std::pair<fs::path, std::string> cases[] = {
      {dir_, "expected a regular file, found a folder"},
      {dir_ / "pipe", "expected a regular file, found a pipe"},  // and does not wait for a writer
      {"/dev/null", "expected a regular file, found a device"},
      {"/dev/zero", "expected a regular file, found a device"},
      {dir_ / "none", "cannot open: No such file or directory"},
      {dir_ / std::string(300, 'x'), "cannot open: File name too long"},
      {"", "cannot open: No such file or directory"}};
  for (const auto& [path, message] : cases) {
    EXPECT_EQ(MappedFile::open(path).error().message, path.string() + ": " + message);
    EXPECT_EQ(read_text_file(path).error().message, path.string() + ": " + message);
  }
  EXPECT_EQ(MappedFile::open(dir_ / "none").error().code, ErrorCode::not_found);
}

TEST_F(Files, text_is_read_whole_or_refused) {
  std::ofstream(dir_ / "text", std::ios::binary) << std::string("a\0b\n", 4);
  EXPECT_EQ(*read_text_file(dir_ / "text", 4), std::string("a\0b\n", 4));
  EXPECT_EQ(read_text_file(dir_ / "text", 3).error().message,
            (dir_ / "text").string() + ": expected at most 3 bytes, found 4");
  EXPECT_GT(read_text_file("/proc/self/status")->size(), 100u);  // a file whose size stat does not know
  EXPECT_FALSE(read_text_file("/proc/self/status", 100));
}

TEST_F(Files, a_file_is_replaced_in_one_step) {
  const fs::path path = dir_ / "file";
  ASSERT_TRUE(write_file_atomically(path, bytes("old")));
  {
    AtomicFile file = *AtomicFile::create(path);
    ASSERT_TRUE(file.write(bytes("ne")));
    ASSERT_TRUE(file.write(bytes("w")));
    EXPECT_EQ(content(path), "old");
    AtomicFile moved = std::move(file);
    ASSERT_TRUE(moved.commit());
    EXPECT_EQ(moved.written(), 3u);
  }
  EXPECT_EQ(content(path), "new");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, a_file_given_up_leaves_nothing_behind) {
  const fs::path path = dir_ / "file";
  ASSERT_TRUE(write_file_atomically(path, bytes("old")));
  {
    ASSERT_TRUE(AtomicFile::create(path)->write(bytes("new")));
  }
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(entries(), 1u);
  EXPECT_EQ(AtomicFile::create(dir_ / "no/file").error().code, ErrorCode::not_found);
}

TEST_F(Files, devices_and_folders_are_never_replaced) {
  for (const fs::path& path : {fs::path("/dev/null"), dir_})
    EXPECT_NE(write_file_atomically(path, bytes("x")).error().message.find("expected a regular file or none"),
              std::string::npos);
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(Files, writers_of_one_file_do_not_mix) {
  const fs::path path = dir_ / "file";
  std::vector<std::jthread> threads;
  for (char c : {'a', 'b', 'c', 'd'})
    threads.emplace_back([&, c] {
      for (int i = 0; i < 20; ++i) EXPECT_TRUE(write_file_atomically(path, bytes(std::string(10000, c))));
    });
  threads.clear();
  const std::string text = content(path);
  EXPECT_EQ(text, std::string(10000, text[0]));
  EXPECT_EQ(entries(), 1u);
}

TEST(Printable, names_stay_on_one_line) {
  EXPECT_EQ(printable("blk.0.attn_q.weight"), "blk.0.attn_q.weight");
  EXPECT_EQ(printable(""), "\"\"");
  EXPECT_EQ(printable("a b"), "\"a b\"");
  EXPECT_EQ(printable("a\n\x1b[2J\x7f"), "\"a\\n\\u001b[2J\"");
  EXPECT_EQ(printable("\xff"), "\"\\ufffd\"");
  EXPECT_EQ(printable(std::string(100, 'x'), 10), "\"xxxxxxxxxx\"...");
}

}  // namespace
}  // namespace quern
