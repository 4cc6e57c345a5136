// SPDX-License-Identifier: Apache-2.0
#include "quern/server/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace quern {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

class ApiKeysTest : public testing::Test {
 protected:
  ApiKeysTest() {
    std::string name = (fs::temp_directory_path() / "quern-keys-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ / "keys";
  }
  ~ApiKeysTest() override { fs::remove_all(folder_); }

  Result<ApiKeys> load(const std::string& content, mode_t mode = 0600) {
    std::ofstream(path_, std::ios::binary) << content;
    ::chmod(path_.c_str(), mode);
    return ApiKeys::load(path_);
  }

  fs::path folder_, path_;
};

std::optional<std::string> bearer(const ApiKeys& keys, const std::string& value) {
  return keys.owner_of({{"host", "x"}, {"authorization", value}});
}
std::optional<std::string> x_api_key(const ApiKeys& keys, const std::string& value) {
  return keys.owner_of({{"x-api-key", value}, {"host", "x"}});
}

TEST_F(ApiKeysTest, every_key_of_the_file_opens_by_either_header) {
  const auto keys = load("  first-key-4f9a \r\n\n\tsecond#key\n#third");
  ASSERT_TRUE(keys) << keys.error().message;
  for (const char* key : {"first-key-4f9a", "second#key", "#third"}) {
    const auto owner = x_api_key(*keys, key);
    ASSERT_TRUE(owner) << key;
    EXPECT_EQ(bearer(*keys, std::string("Bearer ") + key), owner);
    EXPECT_EQ(bearer(*keys, std::string("bEARER   ") + key + " "), owner);
  }
}

TEST_F(ApiKeysTest, all_else_does_not) {
  const std::string first = "first-key-4f9a", second = "second-key-77b1";
  const auto keys = load(first + "\n" + second + "\n");
  ASSERT_TRUE(keys);
  std::vector<std::string> wrong = {"",
                                    "x",
                                    "*",
                                    "null",
                                    "Bearer",
                                    first.substr(1),
                                    first.substr(0, first.size() - 1),
                                    first + "x",
                                    "FIRST-KEY-4F9A",
                                    first + "\t" + second,
                                    first + "," + second,
                                    first + std::string(1, '\0'),
                                    std::string(5000, 'a'),
                                    first + first};
  for (const std::string& key : wrong) {
    EXPECT_FALSE(x_api_key(*keys, key)) << key;
    EXPECT_FALSE(bearer(*keys, "Bearer " + key)) << key;
  }
  for (const std::string& value : {first, "Basic " + first, "Bearer" + first, "Bearer\t" + first, "xBearer " + first})
    EXPECT_FALSE(bearer(*keys, value)) << value;
  EXPECT_FALSE(keys->owner_of({}));
  EXPECT_FALSE(keys->owner_of({{"api-key", first}, {"cookie", first}, {"x-api-keys", first}}));
}

TEST_F(ApiKeysTest, one_right_key_among_headers_is_enough) {
  const auto keys = load("right\nother\n");
  ASSERT_TRUE(keys);
  EXPECT_EQ(keys->owner_of({{"authorization", "Bearer wrong"}, {"x-api-key", "right"}}), x_api_key(*keys, "right"));
  EXPECT_EQ(keys->owner_of({{"authorization", "Bearer other"}, {"x-api-key", "right"}}), x_api_key(*keys, "other"));
}

TEST_F(ApiKeysTest, owners_differ_hide_the_key_and_last) {
  const auto keys = load("alpha-key\nbeta-key\n");
  ASSERT_TRUE(keys);
  const auto alpha = x_api_key(*keys, "alpha-key");
  EXPECT_NE(alpha, x_api_key(*keys, "beta-key"));
  EXPECT_EQ(alpha->size(), 32u);
  const auto reordered = load("beta-key\nalpha-key\n");
  ASSERT_TRUE(reordered);
  EXPECT_EQ(x_api_key(*reordered, "alpha-key"), alpha);
}

TEST_F(ApiKeysTest, a_file_that_is_no_use_is_one_line_with_its_path) {
  for (const std::string& content :
       {std::string(), std::string("\n  \r\n\t\n"), std::string("good\nwith blank inside\n"),
        std::string("k\xc3\xa9y\n"), std::string("a\0b\n", 4), std::string(2 << 20, 'a')}) {
    const auto keys = load(content);
    ASSERT_FALSE(keys) << content.substr(0, 20);
    EXPECT_THAT(keys.error().message, StartsWith(path_.string() + ": "));
    EXPECT_THAT(keys.error().message, testing::Not(HasSubstr("\n")));
  }
  EXPECT_THAT(load("good\nwith blank inside\n").error().message, HasSubstr("line 2"));
  const auto missing = ApiKeys::load(folder_ / "none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_THAT(missing.error().message, StartsWith((folder_ / "none").string()));
  EXPECT_FALSE(ApiKeys::load(folder_));
}

TEST_F(ApiKeysTest, warns_of_a_file_that_others_can_read) {
  EXPECT_FALSE(load("key", 0600)->warning());
  EXPECT_FALSE(load("key", 0400)->warning());
  for (mode_t mode : {0640, 0604, 0644, 0620}) {
    const auto keys = load("key", mode);
    ASSERT_TRUE(keys && keys->warning());
    EXPECT_THAT(*keys->warning(), StartsWith(path_.string() + ": readable by others"));
  }
}

}  // namespace
}  // namespace quern
