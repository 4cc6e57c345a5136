// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <random>
#include <string>

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kModel = 0x0123456789abcdef, kOtherModel = 0x42;
constexpr int64_t kCap = 64 << 20;

StoreKey key_of(int number) {
  std::mt19937_64 random(static_cast<uint64_t>(number));
  StoreKey key;
  for (std::byte& b : key.bytes) b = std::byte(random());
  return key;
}

std::vector<std::byte> noise(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(bytes);
  for (std::byte& b : out) b = std::byte(random());
  return out;
}

using Parts = std::vector<std::vector<std::byte>>;

Parts parts_of(int number) {
  const auto seed = static_cast<uint64_t>(number);
  return {noise(10'007, seed), {}, noise(4096, seed + 1), noise(33, seed + 2)};
}

class PrefixStoreTest : public testing::Test {
 protected:
  PrefixStoreTest() {
    std::string name = (fs::temp_directory_path() / "quern-prefix-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    dir_ = folder_ / "cache";
  }
  ~PrefixStoreTest() override { fs::remove_all(folder_); }

  std::unique_ptr<PrefixStore> open(uint64_t model = kModel, int64_t cap_bytes = kCap) {
    auto store = PrefixStore::open(dir_, model, cap_bytes);
    EXPECT_TRUE(store.has_value()) << (store ? "" : store.error().message);
    return store ? *std::move(store) : nullptr;
  }

  static void put(PrefixStore& store, int number, const Parts& parts) {
    std::atomic<bool> written = false;
    store.put(key_of(number), {parts.begin(), parts.end()}, [&] { written = true; });
    store.flush();
    EXPECT_TRUE(written);
  }
  static void put(PrefixStore& store, int number) { put(store, number, parts_of(number)); }

  /// What `get` says; what it read must be what was put.
  static bool get(PrefixStore& store, int number) {
    const Parts expected = parts_of(number);
    Parts found = expected;
    for (auto& part : found) std::ranges::fill(part, std::byte{0xaa});
    const std::vector<std::span<std::byte>> spans(found.begin(), found.end());
    if (!store.get(key_of(number), spans)) return false;
    EXPECT_EQ(found, expected);
    return true;
  }

  fs::path shelf(int number, uint64_t model = kModel) const {
    return dir_ / fmt::format("{:016x}", model) / key_text(key_of(number)).substr(0, 2);
  }
  fs::path file(int number, uint64_t model = kModel) const { return shelf(number, model) / key_text(key_of(number)); }

  static std::string content(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void overwrite(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
  static void set_age(const fs::path& path, int seconds) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
  }
  size_t files() const {
    size_t n = 0;
    for (const auto& entry : fs::recursive_directory_iterator(dir_)) n += entry.is_regular_file();
    return n;
  }

  fs::path folder_, dir_;
};

TEST_F(PrefixStoreTest, entries_come_back_and_survive_a_restart) {
  auto store = open();
  EXPECT_FALSE(store->contains(key_of(1)));
  EXPECT_FALSE(get(*store, 1));
  for (int i = 0; i < 20; ++i) put(*store, i);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(store->contains(key_of(i)) && get(*store, i)) << i;
  EXPECT_FALSE(get(*store, 20));
  const int64_t bytes = store->stored_bytes();
  store.reset();
  store = open();
  EXPECT_EQ(store->stored_bytes(), bytes);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(store->contains(key_of(i)) && get(*store, i)) << i;
  EXPECT_FALSE(store->last_error());
}

TEST_F(PrefixStoreTest, what_waits_is_written_at_the_end) {
  const Parts parts = parts_of(7);
  auto store = open();
  std::atomic<int> written = 0;
  for (int i = 0; i < 50; ++i) store->put(key_of(i), {parts.begin(), parts.end()}, [&] { ++written; });
  store.reset();
  EXPECT_EQ(written, 50);
  EXPECT_EQ(files(), 50u);
}

TEST_F(PrefixStoreTest, is_for_its_owner_only) {
  const mode_t mask = ::umask(0);
  put(*open(), 1);
  ::umask(mask);
  struct stat facts;
  for (const fs::path& path : {dir_, shelf(1).parent_path(), shelf(1)}) {
    ASSERT_EQ(::stat(path.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0700u) << path;
  }
  ASSERT_EQ(::stat(file(1).c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
}

TEST_F(PrefixStoreTest, makes_parent_folders_and_names_what_cannot_be_made) {
  dir_ = folder_ / "a" / "b";
  put(*open(), 1);
  EXPECT_TRUE(fs::exists(file(1)));
  overwrite(folder_ / "plain", "x");
  for (const fs::path& bad : {folder_ / "plain", folder_ / "plain" / "below", fs::path("/proc/none")}) {
    const auto store = PrefixStore::open(bad, kModel, kCap);
    ASSERT_FALSE(store) << bad;
    EXPECT_TRUE(store.error().message.starts_with(bad.string() + ": ")) << store.error().message;
  }
}

TEST_F(PrefixStoreTest, other_sizes_of_parts_are_no_hit) {
  auto store = open();
  for (const std::vector<size_t>& sizes : {std::vector<size_t>{10'007, 0, 4096, 34},
                                           {10'007, 0, 4096},
                                           {10'006, 1, 4096, 33},
                                           {},
                                           {10'007, 0, 4096, 33, 0},
                                           {10'007 + 16, 4096, 33}}) {
    put(*store, 1);
    ASSERT_TRUE(store->contains(key_of(1)));
    Parts found;
    for (size_t n : sizes) found.emplace_back(n);
    const std::vector<std::span<std::byte>> spans(found.begin(), found.end());
    EXPECT_FALSE(store->get(key_of(1), spans));
  }
}

TEST_F(PrefixStoreTest, every_kind_of_damage_is_a_miss_and_goes) {
  auto store = open();
  put(*store, 1);
  const std::string good = content(file(1));
  std::vector<std::string> damaged = {
      "", std::string(good.size(), '\xff'), std::string(good.size(), '\0'), "x", good + "x", good.substr(1) + "x"};
  for (size_t bytes : {size_t{1}, size_t{8}, size_t{71}, size_t{200}, good.size() / 2, good.size() - 1})
    damaged.push_back(good.substr(0, bytes));
  std::mt19937 random(3);
  for (int i = 0; i < 400; ++i) {  // a bit of each header byte, and of many others
    std::string flipped = good;
    const size_t at = i < 136 ? static_cast<size_t>(i) : random() % good.size();
    flipped[at] = static_cast<char>(flipped[at] ^ 1 << random() % 8);
    damaged.push_back(flipped);
  }
  std::string noisy(good.size(), 0);
  for (char& c : noisy) c = static_cast<char>(random());
  damaged.push_back(noisy);
  for (const std::string& bytes : damaged) {
    overwrite(file(1), bytes);
    ASSERT_TRUE(store->contains(key_of(1)));
    ASSERT_FALSE(get(*store, 1));
    EXPECT_FALSE(store->contains(key_of(1)));
    EXPECT_FALSE(fs::exists(file(1)));
    put(*store, 1);
    ASSERT_TRUE(get(*store, 1));
  }
  // An entry under the name of another key, or of another model.
  put(*store, 2);
  fs::copy_file(file(1), file(2), fs::copy_options::overwrite_existing);
  EXPECT_FALSE(get(*store, 2));
  put(*open(kOtherModel), 1);
  fs::copy_file(file(1, kOtherModel), file(1), fs::copy_options::overwrite_existing);
  EXPECT_FALSE(get(*store, 1));
}

TEST_F(PrefixStoreTest, another_model_finds_nothing) {
  put(*open(), 1);
  auto other = open(kOtherModel);
  EXPECT_FALSE(other->contains(key_of(1)) || get(*other, 1));
  put(*other, 1);
  EXPECT_TRUE(get(*other, 1));
  EXPECT_TRUE(get(*open(), 1));
}

TEST_F(PrefixStoreTest, leftovers_of_killed_writers_go_at_open_those_of_living_ones_stay) {
  put(*open(), 1);
  const fs::path killed = file(1).string() + ".0123456789abcdef.part", living = file(1).string() + ".1.part";
  overwrite(killed, content(file(1)).substr(0, 5000));
  overwrite(living, "half");
  const int fd = ::open(living.c_str(), O_RDONLY);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  auto store = open();
  EXPECT_FALSE(fs::exists(killed));
  EXPECT_TRUE(fs::exists(living));
  EXPECT_TRUE(get(*store, 1));
  ::close(fd);
  store = open(kOtherModel);  // whoever comes next
  EXPECT_FALSE(fs::exists(living));
}

TEST_F(PrefixStoreTest, keeps_below_its_cap_and_forgets_the_longest_unused) {
  const int64_t each = 16 << 10;  // 14,136 bytes and the header, in whole blocks
  auto store = open(kModel, 4 * each);
  for (int i = 0; i < 4; ++i) put(*store, i);
  EXPECT_EQ(store->stored_bytes(), 4 * each);
  EXPECT_TRUE(get(*store, 0));
  put(*store, 4);
  EXPECT_EQ(store->stored_bytes(), 4 * each);
  EXPECT_EQ(files(), 4u);
  EXPECT_FALSE(store->contains(key_of(1)));
  for (int i : {0, 2, 3, 4}) EXPECT_TRUE(store->contains(key_of(i))) << i;

  // Reading counts over a restart as well; a smaller cap holds at once.
  store.reset();
  int age = 1000;
  for (int i : {0, 2, 3, 4}) set_age(file(i), age--);
  EXPECT_TRUE(get(*open(), 0));
  store = open(kModel, 2 * each + 1);
  EXPECT_EQ(files(), 2u);
  EXPECT_TRUE(store->contains(key_of(0)) && store->contains(key_of(4)));
}

TEST_F(PrefixStoreTest, an_entry_larger_than_the_cap_costs_no_other) {
  auto store = open(kModel, 32 << 10);
  put(*store, 1);
  put(*store, 2, {noise(40'000, 1)});
  EXPECT_FALSE(store->contains(key_of(2)));
  EXPECT_TRUE(get(*store, 1));
  store = open(kModel, 0);
  EXPECT_EQ(files(), 0u);
  put(*store, 1);
  EXPECT_EQ(files(), 0u);
}

TEST_F(PrefixStoreTest, the_longest_unused_goes_first_whosever_it_is) {
  const int64_t each = 16 << 10;
  {
    auto other = open(kOtherModel);
    put(*other, 10);
    put(*other, 11);
  }
  put(*open(), 1);
  set_age(file(10, kOtherModel), 30);
  set_age(file(1), 20);
  set_age(file(11, kOtherModel), 10);
  auto store = open(kModel, 3 * each);
  EXPECT_EQ(store->stored_bytes(), 3 * each);
  put(*store, 2);
  EXPECT_FALSE(fs::exists(file(10, kOtherModel)));
  EXPECT_TRUE(fs::exists(file(11, kOtherModel)) && fs::exists(file(1)));
  put(*store, 3);
  EXPECT_FALSE(store->contains(key_of(1)));
  put(*store, 4);
  EXPECT_FALSE(fs::exists(shelf(11, kOtherModel).parent_path()));  // its folders too
  for (int i : {2, 3, 4}) EXPECT_TRUE(get(*store, i)) << i;
}

TEST_F(PrefixStoreTest, a_file_of_a_far_future_is_a_new_one) {
  {
    auto store = open();
    put(*store, 1);
    put(*store, 2);
  }
  const int64_t year_2400 = 13'569'465'600;
  const timespec times[] = {{.tv_sec = year_2400, .tv_nsec = 0}, {.tv_sec = year_2400, .tv_nsec = 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, file(1).c_str(), times, 0), 0);
  struct stat facts;
  ASSERT_EQ(::stat(file(1).c_str(), &facts), 0);
  if (facts.st_mtim.tv_sec != year_2400) GTEST_SKIP() << "the file system has no such times";
  auto store = open(kModel, 20 << 10);  // room for one
  EXPECT_TRUE(store->contains(key_of(1)));
  EXPECT_FALSE(store->contains(key_of(2)));
}

TEST_F(PrefixStoreTest, models_share_what_a_folder_may_hold) {
  const int64_t each = 16 << 10, cap = 64 * each, part = cap / 32;
  auto one = open(kModel, cap), two = open(kOtherModel, cap);
  for (int i = 0; i < 300; ++i) {
    put(i % 3 ? *one : *two, i);
    EXPECT_LE(static_cast<int64_t>(files()) * each, cap + 2 * (part + each)) << i;
  }
  // Both have some: those that were used last.
  for (const auto& [store, last] : {std::pair(one.get(), 299), std::pair(two.get(), 297)})
    for (int i = last; i > last - 30; i -= 3) EXPECT_TRUE(get(*store, i)) << i;
}

TEST_F(PrefixStoreTest, two_of_one_model_share_the_cap_and_what_they_have) {
  const int64_t each = 16 << 10, cap = 64 * each, part = cap / 32;
  auto one = open(kModel, cap), two = open(kModel, cap);
  for (int i = 0; i < 300; ++i) {
    put(i % 3 ? *one : *two, i);
    if (i % 5 == 0) put(i % 3 ? *two : *one, i);  // both: they do not know of each other's yet
    EXPECT_LE(static_cast<int64_t>(files()) * each, cap + 2 * (part + each)) << i;
  }
  for (PrefixStore* store : {one.get(), two.get()}) {
    int found = 0;
    for (int i = 0; i < 290; ++i) found += get(*store, i);
    EXPECT_GE(found, 50) << "the other's too";
    EXPECT_LE(store->stored_bytes(), cap + part + each);
  }
}

TEST_F(PrefixStoreTest, hostile_content_is_neither_followed_nor_waited_for) {
  {
    put(*open(), 1), put(*open(), 2);
  }
  const fs::path outside = folder_ / "outside";
  fs::create_directories(outside);
  overwrite(outside / "file", content(file(1)));
  overwrite(outside / key_text(key_of(1)), content(file(1)));

  const fs::path model = shelf(1).parent_path();
  overwrite(dir_ / "notes.txt", "mine");
  overwrite(model / "notes", "mine");
  overwrite(shelf(1) / "notes", "mine");
  overwrite(shelf(1) / (key_text(key_of(1)) + ".bak"), "mine");
  fs::create_directory(shelf(1) / (key_text(key_of(1)) + ".2.part"));
  fs::create_symlink("/dev/zero", shelf(1) / (key_text(key_of(1)) + ".3.part"));
  ASSERT_EQ(::mkfifo((shelf(1) / (key_text(key_of(1)) + ".4.part")).c_str(), 0600), 0);
  fs::create_directory_symlink(dir_, dir_ / "0000000000000001");  // a loop
  fs::create_directory_symlink(outside, model / "zz");
  overwrite(dir_ / "0000000000000002", "no folder");
  ASSERT_EQ(::mkfifo((dir_ / "0000000000000003").c_str(), 0600), 0);
  // Entries of the right name that are none.
  for (int i : {10, 11, 12, 13}) fs::create_directories(shelf(i));
  fs::create_symlink(outside / "file", file(10));
  ASSERT_EQ(::mkfifo(file(11).c_str(), 0600), 0);
  fs::create_directory(file(12));
  overwrite(shelf(13) / std::string(64, 'z'), "no key");

  auto store = open();
  for (int i : {10, 11, 12}) EXPECT_FALSE(store->contains(key_of(i)) || get(*store, i)) << i;
  EXPECT_TRUE(get(*store, 1) && get(*store, 2));
  put(*store, 10);
  put(*store, 11);
  EXPECT_TRUE(get(*store, 10) && get(*store, 11));
  EXPECT_FALSE(fs::is_symlink(file(10)));
  EXPECT_FALSE(store->last_error());
  put(*store, 12);  // a folder in its way
  EXPECT_FALSE(get(*store, 12));
  const auto error = store->last_error();
  ASSERT_TRUE(error);
  EXPECT_NE(error->message.find(file(12).string()), std::string::npos) << error->message;
  EXPECT_EQ(content(outside / "file").size(), content(file(1)).size());
  EXPECT_EQ(content(dir_ / "notes.txt") + content(model / "notes") + content(shelf(1) / "notes"), "mineminemine");

  // Swapped while the store runs: an entry and a folder.
  fs::remove(file(1));
  fs::create_symlink(outside / "file", file(1));
  EXPECT_FALSE(get(*store, 1));
  EXPECT_TRUE(fs::exists(outside / "file"));
  fs::rename(shelf(2), folder_ / "moved");
  fs::create_directory_symlink(folder_ / "moved", shelf(2));
  EXPECT_FALSE(get(*store, 2));
  put(*store, 2);
  EXPECT_TRUE(get(*store, 2));
  EXPECT_TRUE(fs::exists(folder_ / "moved" / key_text(key_of(2))));
  EXPECT_FALSE(fs::is_symlink(shelf(2)));
}

TEST_F(PrefixStoreTest, a_sparse_file_of_a_terabyte_takes_nobodys_place) {
  put(*open(), 1);
  fs::create_directories(shelf(2));
  overwrite(file(2), "");
  ASSERT_EQ(::truncate(file(2).c_str(), int64_t{1} << 40), 0);
  auto store = open();
  EXPECT_FALSE(fs::exists(file(2)));
  EXPECT_TRUE(get(*store, 1));
}

TEST_F(PrefixStoreTest, a_folder_that_goes_away_is_made_again) {
  auto store = open();
  put(*store, 1);
  fs::remove_all(shelf(1).parent_path());
  EXPECT_FALSE(get(*store, 1));
  EXPECT_EQ(store->stored_bytes(), 0);
  put(*store, 1);
  EXPECT_TRUE(get(*store, 1));
}

TEST_F(PrefixStoreTest, a_full_disk_is_told_once_and_again_after_it_has_worked) {
  auto store = open();
  put(*store, 1);
  const auto limit_files = [](rlim_t bytes) {  // stands for a full disk: writes beyond it fail
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit;
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = std::min(bytes, limit.rlim_max);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  };
  for (int round = 0; round < 2; ++round) {
    limit_files(6000);
    put(*store, 2);
    put(*store, 3);
    limit_files(RLIM_INFINITY);
    EXPECT_FALSE(store->contains(key_of(2)));
    EXPECT_EQ(files(), 1u);  // nothing half written
    const auto error = store->last_error();
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->message.starts_with(file(2).string() + ": cannot write: ")) << error->message;
    EXPECT_FALSE(store->last_error());
    put(*store, 4);
    EXPECT_TRUE(get(*store, 1) && get(*store, 4));
    fs::remove(file(4));
    EXPECT_FALSE(get(*store, 4));
  }
}

TEST_F(PrefixStoreTest, what_is_there_or_waits_too_long_is_dropped_at_once) {
  const Parts parts = parts_of(1);
  auto opened = PrefixStore::open(dir_, kModel, kCap, 40'000);
  ASSERT_TRUE(opened);
  auto store = *std::move(opened);
  std::mutex held;
  std::unique_lock hold(held);
  std::atomic<int> written = 0;
  const auto put_one = [&](int number) {
    store->put(key_of(number), {parts.begin(), parts.end()}, [&] {
      const std::lock_guard wait(held);
      ++written;
    });
  };
  put_one(1);  // 16 KiB each on disk: two of them may wait
  put_one(2);
  const auto dropped = [&](int number) {
    bool at_once = false;
    store->put(key_of(number), {parts.begin(), parts.end()}, [&] { at_once = true; });
    return at_once;
  };
  EXPECT_TRUE(dropped(3));
  EXPECT_TRUE(dropped(1));  // on its way
  hold.unlock();
  store->flush();
  EXPECT_EQ(written, 2);
  EXPECT_TRUE(dropped(2));  // there
  EXPECT_FALSE(store->contains(key_of(3)));
  put(*store, 3, parts);
  EXPECT_TRUE(store->contains(key_of(3)));
}

TEST_F(PrefixStoreTest, a_writer_that_is_killed_leaves_whole_entries_alone) {
  std::mt19937 random(11);
  for (int round = 0; round < 15; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto store = PrefixStore::open(dir_, kModel, kCap);
      if (!store) ::_exit(1);
      for (int i = 0; i < 100'000; ++i) {
        const Parts parts = parts_of(i);
        (*store)->put(key_of(i), {parts.begin(), parts.end()}, [] {});
        (*store)->flush();
      }
      ::_exit(0);
    }
    for (int i = 0; i < 1000 && !fs::exists(file(0)); ++i) ::usleep(10'000);
    ::usleep(random() % 40'000);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
  }
  auto store = open();
  int whole = 0;
  while (get(*store, whole)) ++whole;
  EXPECT_GT(whole, 0);
  EXPECT_EQ(files(), static_cast<size_t>(whole));  // nothing half written is left, and nothing came before its turn
}

TEST_F(PrefixStoreTest, two_on_one_folder_do_no_harm) {
  // As two processes: neither knows at once what the other does after the start.
  auto one = open(kModel, 100 << 10), two = open(kModel, 100 << 10);
  std::mt19937 random(9);
  for (int i = 0; i < 300; ++i) {
    PrefixStore& store = random() % 2 ? *one : *two;
    const int number = static_cast<int>(random() % 12);
    if (random() % 2)
      put(store, number);
    else
      get(store, number);  // right, or a miss
  }
  one.reset(), two.reset();
  auto store = open();
  int whole = 0;
  for (int i = 0; i < 12; ++i) whole += get(*store, i);
  EXPECT_GT(whole, 0);
  EXPECT_EQ(static_cast<size_t>(whole), files());
}

TEST(PrefixEntry, keys_are_64_lower_case_digits) {
  const std::string text = key_text(key_of(5));
  EXPECT_EQ(text.size(), 64u);
  EXPECT_EQ(parse_key(text), key_of(5));
  for (const std::string& bad : {std::string(), text.substr(1), text + "0", std::string(64, 'G'), std::string(64, 'A'),
                                 text.substr(0, 63) + ' ', std::string(64, '\0')})
    EXPECT_FALSE(parse_key(bad)) << bad;
}

TEST(PrefixEntry, any_changed_bit_changes_a_checksum) {
  for (size_t bytes : {1u, 8u, 31u, 32u, 33u, 100u}) {
    std::vector<std::byte> data = noise(bytes, bytes);
    const uint64_t sum = part_checksum(data);
    for (size_t bit = 0; bit < 8 * bytes; ++bit) {
      data[bit / 8] ^= std::byte(1 << bit % 8);
      EXPECT_NE(part_checksum(data), sum) << bytes << " bytes, bit " << bit;
      data[bit / 8] ^= std::byte(1 << bit % 8);
    }
    EXPECT_EQ(part_checksum(data), sum);
  }
  const std::vector<std::byte> zeros(64);
  EXPECT_NE(part_checksum(zeros), part_checksum(std::span(zeros).first(32)));
}

}  // namespace
}  // namespace quern
