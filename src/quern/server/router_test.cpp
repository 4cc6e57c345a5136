// SPDX-License-Identifier: Apache-2.0
#include "quern/server/router.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

constexpr Endpoint kList = {.method = "GET", .path = "/things", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kGet = {.method = "GET", .path = "/things/{id}", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kDelete = {
    .method = "DELETE", .path = "/things/{id}", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kParts = {
    .method = "GET", .path = "/things/{id}/parts", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kNew = {.method = "POST", .path = "/things/new", .summary = "", .fields = {}, .handle = nullptr};
constexpr const Endpoint* kTable[] = {&kGet, &kParts, &kDelete, &kNew, &kList};

TEST(Router, finds_by_method_and_path_and_keeps_what_stands_for_the_id) {
  EXPECT_EQ(find_route(kTable, "GET", "/things").endpoint, &kList);
  const Route one = find_route(kTable, "DELETE", "/things/a b");
  EXPECT_EQ(one.endpoint, &kDelete);
  EXPECT_EQ(one.tail, "a b");
  EXPECT_EQ(find_route(kTable, "POST", "/things/new").endpoint, &kNew);
}

TEST(Router, an_id_at_the_end_takes_slashes_one_in_the_middle_does_not) {
  const Route name = find_route(kTable, "GET", "/things/org/name");
  EXPECT_EQ(name.endpoint, &kGet);
  EXPECT_EQ(name.tail, "org/name");
  EXPECT_EQ(find_route(kTable, "GET", "/things/x/parts").endpoint, &kParts);
  EXPECT_EQ(find_route(kTable, "GET", "/things/x/y/parts").endpoint, &kGet);
}

TEST(Router, an_empty_id_is_none) { EXPECT_EQ(find_route(kTable, "GET", "/things/").endpoint, nullptr); }

TEST(Router, another_method_tells_those_that_are_there) {
  EXPECT_EQ(find_route(kTable, "PUT", "/things/x").allow, "GET, DELETE");
  EXPECT_EQ(find_route(kTable, "PUT", "/nothing").allow, "");
  const auto refused = check_route(HttpRequest{.method = "POST", .path = "/health"});
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->status, 405);
  ASSERT_EQ(refused->headers.size(), 1U);
  EXPECT_EQ(refused->headers[0], std::pair(std::string("Allow"), std::string("GET")));
}

TEST(Router, an_unknown_path_is_a_404_in_its_dialect) {
  const auto refused = check_route(HttpRequest{.method = "GET", .path = "/api/\x1b[2J"});
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->status, 404);
  const Json body = *Json::parse(refused->body);
  ASSERT_TRUE(body.find("error")->is_string());
  EXPECT_EQ(body.find("error")->string().find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace quern
