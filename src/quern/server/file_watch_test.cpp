// SPDX-License-Identifier: Apache-2.0
#include "quern/server/file_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

namespace quern {
namespace {

namespace fs = std::filesystem;

class FileWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::path(::testing::TempDir()) / fmt::format("quern-file-watch-{}", ::getpid());
    fs::create_directories(dir_);
    for (const char* name : {"a", "b"}) write(name, "weights");
  }
  void TearDown() override { fs::remove_all(dir_); }

  void write(const char* name, std::string_view text) const { std::ofstream(dir_ / name) << text; }
  FileWatch watch() const { return FileWatch({dir_ / "a", dir_ / "b"}); }
  /// The clock of a file system may tick slowly.
  static void let_time_pass() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

  fs::path dir_;
};

TEST_F(FileWatchTest, sees_files_that_are_written_into) {
  FileWatch w = watch();
  EXPECT_FALSE(w.change());
  let_time_pass();
  write("b", "Weights");
  const auto change = w.change();
  ASSERT_TRUE(change);
  EXPECT_EQ(change->message.find((dir_ / "b").string()), 0u) << change->message;
}

TEST_F(FileWatchTest, sees_files_that_are_cut_or_grow) {
  for (const char* text : {"wei", "weights and more"}) {
    FileWatch w = watch();
    write("a", text);
    const auto change = w.change();
    ASSERT_TRUE(change);
    EXPECT_NE(change->message.find("bytes"), std::string::npos) << change->message;
  }
}

TEST_F(FileWatchTest, sees_writing_that_hides_its_time) {
  FileWatch w = watch();
  struct stat before{};
  ASSERT_EQ(::stat((dir_ / "a").c_str(), &before), 0);
  let_time_pass();
  write("a", "Weights");
  const timespec times[] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, (dir_ / "a").c_str(), times, 0), 0);
  EXPECT_TRUE(w.change());
}

TEST_F(FileWatchTest, another_file_under_the_name_is_no_matter) {
  FileWatch w = watch();
  write("other", "something else");
  fs::rename(dir_ / "other", dir_ / "a");
  EXPECT_FALSE(w.change());
  write("a", "of nobody's concern");
  EXPECT_FALSE(w.change());
  fs::remove(dir_ / "b");
  EXPECT_FALSE(w.change());
}

TEST_F(FileWatchTest, a_file_that_comes_back_under_its_name_is_watched_again) {
  FileWatch w = watch();
  fs::rename(dir_ / "a", dir_ / "c");
  EXPECT_FALSE(w.change());
  let_time_pass();
  fs::rename(dir_ / "c", dir_ / "a");
  EXPECT_FALSE(w.change()) << "nothing was written";
  let_time_pass();
  write("a", "Weights");
  EXPECT_TRUE(w.change());

  FileWatch v = watch();
  fs::rename(dir_ / "b", dir_ / "c");
  EXPECT_FALSE(v.change());
  let_time_pass();
  write("c", "Weights");
  fs::rename(dir_ / "c", dir_ / "b");
  EXPECT_TRUE(v.change()) << "written while it had another name";
}

TEST_F(FileWatchTest, narrows_to_what_is_mapped_as_it_was_before) {
  for (const char* name : {"b", "c"}) {
    FileWatch w = watch();
    write("c", "weights");
    let_time_pass();
    write("a", "Weights");
    const std::vector<fs::path> mapped = {dir_ / "b", dir_ / "c"};
    w.narrow_to(mapped);
    EXPECT_FALSE(w.change());
    let_time_pass();
    write(name, "Weights");
    EXPECT_TRUE(w.change()) << name;
  }
  FileWatch w = watch();
  let_time_pass();
  write("b", "weights");
  w.narrow_to(std::vector<fs::path>{dir_ / "b"});
  EXPECT_TRUE(w.change()) << "written before it was narrowed";

  FileWatch replaced = watch();
  write("other", "something else");
  fs::rename(dir_ / "other", dir_ / "b");
  replaced.narrow_to(std::vector<fs::path>{dir_ / "b"});
  EXPECT_FALSE(replaced.change());
  let_time_pass();
  write("b", "written into");
  EXPECT_TRUE(replaced.change()) << "the other file is the one that is mapped";
}

TEST_F(FileWatchTest, links_names_rights_and_reading_are_no_matter) {
  FileWatch w = watch();
  let_time_pass();
  fs::create_hard_link(dir_ / "a", dir_ / "c");
  EXPECT_FALSE(w.change());
  fs::permissions(dir_ / "a", fs::perms::owner_read);
  EXPECT_FALSE(w.change());
  fs::rename(dir_ / "b", dir_ / "d");
  EXPECT_FALSE(w.change());
  fs::rename(dir_ / "d", dir_ / "b");
  EXPECT_FALSE(w.change());
  std::string text;
  std::ifstream(dir_ / "a") >> text;
  EXPECT_EQ(text, "weights");
  EXPECT_FALSE(w.change());
}

}  // namespace
}  // namespace quern
