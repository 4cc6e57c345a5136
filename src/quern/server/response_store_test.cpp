// SPDX-License-Identifier: Apache-2.0
#include "quern/server/response_store.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <vector>

namespace quern {
namespace fs = std::filesystem;
namespace {

Json record_of(std::string_view text) {
  Json record;
  record.set("response", Json(Json::Object{{"id", Json(text)}})).set("input", Json(Json::Array{Json(text)}));
  return record;
}

class DiskStore : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::path(::testing::TempDir()) / "quern-responses-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = fs::path(name) / "store";
  }
  void TearDown() override { fs::remove_all(folder_.parent_path()); }

  std::unique_ptr<DiskResponseStore> open(int64_t cap_bytes = 1 << 20) {
    auto store = DiskResponseStore::open(folder_, cap_bytes);
    EXPECT_TRUE(store) << (store ? "" : store.error().message);
    return store ? *std::move(store) : nullptr;
  }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_))
      if (entry.is_regular_file()) found.push_back(entry.path());
    return found;
  }

  /// Puts one response, closes the store and says where its file is.
  fs::path one_file() {
    open()->put("ada", "resp_1", record_of("x").dump());
    const auto found = files();
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? fs::path() : found[0];
  }

  fs::path folder_;
};

void keeps_apart_and_forgets(ResponseStore& store) {
  store.put("ada", "resp_1", record_of("of ada").dump());
  store.put("bob", "resp_1", record_of("of bob").dump());
  store.put("", "resp_2", record_of("of nobody").dump());
  EXPECT_EQ(store.get("ada", "resp_1"), record_of("of ada"));
  EXPECT_EQ(store.get("bob", "resp_1"), record_of("of bob"));
  EXPECT_EQ(store.get("ada", "resp_2"), std::nullopt);
  EXPECT_FALSE(store.remove("ada", "resp_2"));
  EXPECT_TRUE(store.remove("ada", "resp_1"));
  EXPECT_FALSE(store.remove("ada", "resp_1"));
  EXPECT_EQ(store.get("ada", "resp_1"), std::nullopt);
  EXPECT_EQ(store.get("bob", "resp_1"), record_of("of bob"));
  store.put("ada", "resp_1", record_of("again").dump());
  store.put("ada", "resp_1", record_of("and again").dump());
  EXPECT_EQ(store.get("ada", "resp_1"), record_of("and again"));
}

TEST(MemoryStore, keeps_owners_apart_and_forgets_what_is_removed) {
  const auto store = make_memory_response_store();
  keeps_apart_and_forgets(*store);
}

TEST(MemoryStore, one_owner_cannot_push_out_another) {
  const auto store = make_memory_response_store(4000);
  store->put("ada", "resp_a", record_of("mine").dump());
  for (int i = 0; i < 200; ++i)
    store->put("flood", "resp_" + std::to_string(i), record_of(std::string(300, 'x')).dump());
  EXPECT_EQ(store->get("ada", "resp_a"), record_of("mine"));
  EXPECT_EQ(store->get("flood", "resp_0"), std::nullopt);
  EXPECT_EQ(store->get("flood", "resp_199"), record_of(std::string(300, 'x')));
}

TEST(MemoryStore, what_is_too_large_is_not_kept) {
  const auto store = make_memory_response_store(1000);
  store->put("ada", "resp_1", record_of("small").dump());
  store->put("ada", "resp_2", record_of(std::string(2000, 'x')).dump());
  EXPECT_EQ(store->get("ada", "resp_2"), std::nullopt);
  EXPECT_EQ(store->get("ada", "resp_1"), record_of("small"));
}

TEST_F(DiskStore, keeps_owners_apart_and_forgets_what_is_removed) {
  const auto store = open();
  keeps_apart_and_forgets(*store);
  store->flush();
  keeps_apart_and_forgets(*store);
  store->flush();
  EXPECT_EQ(store->last_error().has_value(), false);
}

TEST_F(DiskStore, survives_a_restart) {
  open()->put("ada", "resp_1", record_of("kept").dump());
  EXPECT_EQ(open()->get("ada", "resp_1"), record_of("kept"));
  EXPECT_TRUE(open()->remove("ada", "resp_1"));
  EXPECT_EQ(open()->get("ada", "resp_1"), std::nullopt);
  EXPECT_TRUE(files().empty());
}

TEST_F(DiskStore, files_are_for_their_owner_alone_and_named_by_hashes) {
  const auto old = umask(0);
  open()->put("../../../../ada", "../../etc/passwd", record_of("x").dump());
  umask(old);
  const auto found = files();
  ASSERT_EQ(found.size(), 1u);
  struct stat facts;
  ASSERT_EQ(stat(found[0].c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  for (const fs::path& folder : {folder_, found[0].parent_path()}) {
    ASSERT_EQ(stat(folder.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0700u) << folder;
  }
  EXPECT_EQ(found[0].parent_path().parent_path(), folder_);
  EXPECT_EQ(found[0].filename().string().find_first_not_of("0123456789abcdef"), 64u);
  EXPECT_EQ(found[0].extension(), ".json");
}

TEST_F(DiskStore, damaged_files_are_as_if_absent) {
  const fs::path path = one_file();
  const std::string whole = [&] {
    std::ifstream in(path);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  const auto with = [&](std::string_view text) {
    std::ofstream(path, std::ios::trunc) << text;
    return open()->get("ada", "resp_1");
  };
  ASSERT_EQ(with(whole), record_of("x"));
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_EQ(with(whole.substr(0, length)), std::nullopt) << length;
  for (const std::string_view other :
       {"null", "[]", "{}", "\xff", R"({"owner":"ada","id":"resp_1"})", R"({"owner":5,"id":"resp_1","record":{}})",
        R"({"owner":"bob","id":"resp_1","record":{}})", R"({"owner":"ada","id":"resp_2","record":{}})"})
    EXPECT_EQ(with(other), std::nullopt) << other;
}

TEST_F(DiskStore, links_and_strange_things_are_not_followed) {
  const fs::path path = one_file(), outside = folder_.parent_path() / "outside";
  fs::rename(path, outside);
  struct Thing {
    const char* what;
    std::function<void()> make;
    const char* refused;  ///< part of the error; null: it is replaced
  };
  const Thing in_the_way[] = {
      {"a link", [&] { fs::create_symlink(outside, path); }, nullptr},
      {"a folder", [&] { fs::create_directory(path); }, "expected a regular file or none, found a folder"},
      {"a pipe", [&] { ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); }, "expected a regular file or none, found a pipe"},
  };
  for (const Thing& thing : in_the_way) {
    SCOPED_TRACE(thing.what);
    thing.make();
    const auto store = open();
    EXPECT_EQ(store->get("ada", "resp_1"), std::nullopt);
    EXPECT_FALSE(store->remove("ada", "resp_1"));
    store->put("ada", "resp_1", record_of("new").dump());
    store->flush();
    const auto error = store->last_error();
    if (thing.refused) {
      ASSERT_TRUE(error);
      EXPECT_NE(error->message.find(thing.refused), std::string::npos) << error->message;
      EXPECT_EQ(store->get("ada", "resp_1"), std::nullopt);
    } else {
      EXPECT_FALSE(error) << error->message;
      EXPECT_EQ(store->get("ada", "resp_1"), record_of("new"));
    }
    fs::remove_all(path);
  }
  EXPECT_TRUE(fs::exists(outside));
  const fs::path group = path.parent_path(), elsewhere = folder_.parent_path() / "elsewhere";
  fs::create_directory(elsewhere);
  fs::copy_file(outside, elsewhere / path.filename());
  fs::remove_all(group);
  fs::create_directory_symlink(elsewhere, group);
  const auto store = open();
  EXPECT_EQ(store->get("ada", "resp_1"), std::nullopt);
  store->put("ada", "resp_9", record_of("x").dump());
  store->flush();
  const auto error = store->last_error();
  ASSERT_TRUE(error);
  EXPECT_NE(error->message.find("expected a folder, found"), std::string::npos) << error->message;
  EXPECT_TRUE(fs::exists(elsewhere / path.filename()));
}

TEST_F(DiskStore, removes_what_a_killed_write_left_and_nothing_else) {
  const fs::path path = one_file();
  const fs::path leftover = path.string() + ".123-0.part", strange = path.parent_path() / "notes.part";
  for (const fs::path& file : {leftover, strange, folder_ / "readme.txt"}) std::ofstream(file) << "x";
  open();
  EXPECT_FALSE(fs::exists(leftover));
  EXPECT_TRUE(fs::exists(strange));
  EXPECT_TRUE(fs::exists(folder_ / "readme.txt"));
  EXPECT_TRUE(fs::exists(path));
}

TEST_F(DiskStore, stays_below_its_cap) {
  constexpr int64_t kCap = 40960;  // ten blocks
  {
    const auto store = open(kCap);
    store->put("ada", "resp_a", record_of("mine").dump());
    for (int i = 0; i < 40; ++i) store->put("flood", "resp_" + std::to_string(i), record_of("x").dump());
    store->flush();
    EXPECT_EQ(files().size(), 10u);
    EXPECT_EQ(store->get("ada", "resp_a"), record_of("mine"));
    EXPECT_EQ(store->get("flood", "resp_0"), std::nullopt);
    EXPECT_EQ(store->get("flood", "resp_39"), record_of("x"));
    store->put("ada", "resp_big", record_of(std::string(kCap, 'x')).dump());
    EXPECT_EQ(store->get("ada", "resp_big"), std::nullopt);
    EXPECT_TRUE(store->last_error());
  }
  open(kCap / 2);  // a smaller one at the next start
  EXPECT_EQ(files().size(), 5u);
}

TEST_F(DiskStore, names_a_folder_that_cannot_be) {
  std::ofstream(folder_) << "a file";
  const auto store = DiskResponseStore::open(folder_);
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().message.find(folder_.string()), std::string::npos) << store.error().message;
}

}  // namespace
}  // namespace quern
