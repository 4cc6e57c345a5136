// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http.h"

#include <gtest/gtest.h>

#include "quern/server/http_answer.h"

namespace quern {
namespace {

TEST(Http, finds_the_first_header_of_a_name) {
  const HttpHeaders headers = {{"accept", "a"}, {"accept", "b"}, {"x", ""}};
  EXPECT_EQ(header(headers, "accept"), "a");
  EXPECT_EQ(header(headers, "x"), "");
  EXPECT_EQ(header(headers, "host"), "");
}

TEST(Http, compares_without_case_of_ascii_letters_only) {
  EXPECT_TRUE(same_but_case("Content-Length", "content-lENGTH"));
  EXPECT_TRUE(same_but_case("", ""));
  EXPECT_FALSE(same_but_case("a", "ab"));
  EXPECT_FALSE(same_but_case("[", "{"));  // 32 apart, as letters are
  EXPECT_FALSE(same_but_case("@", "`"));
}

TEST(Http, decodes_escapes_once) {
  EXPECT_EQ(percent_decode("/a%2Fb%2fc"), "/a/b/c");
  EXPECT_EQ(percent_decode("%2541"), "%41");
  EXPECT_EQ(percent_decode("%e6%BC%a2 +"), "\xe6\xbc\xa2 +");
}

TEST(Http, refuses_broken_escapes_and_what_they_must_not_hide) {
  for (const char* text : {"%", "a%4", "%4g", "%g4", "%00", "%0d%0a", "%1f", "%7F", "%ff", "%c0%af", "%ed%a0%80"})
    EXPECT_EQ(percent_decode(text), std::nullopt) << text;
}

TEST(Http, names_statuses) {
  EXPECT_EQ(status_text(200), "OK");
  EXPECT_EQ(status_text(431), "Request Header Fields Too Large");
  EXPECT_EQ(status_text(299), "Unknown");
}

TEST(HttpAnswer, writes_dates_as_the_standard_has_them) {
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
}

TEST(HttpAnswer, tells_the_length_of_a_body_that_is_known) {
  EXPECT_EQ(answer_head({.status = 404, .body = "hello"}, {.date = "D"}),
            "HTTP/1.1 404 Not Found\r\nDate: D\r\nServer: quern\r\nX-Content-Type-Options: nosniff\r\n"
            "Content-Type: application/json\r\nContent-Length: 5\r\n\r\n");
}

TEST(HttpAnswer, has_chunks_for_a_body_that_is_not_known_and_none_for_old_clients) {
  const HttpResponse response{.content_type = "text/event-stream"};
  const AnswerForm chunked{.in_pieces = true}, old{.http_1_1 = false, .keep_alive = false, .in_pieces = true};
  EXPECT_NE(answer_head(response, chunked).find("\r\nTransfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_EQ(answer_head(response, old).find("Transfer-Encoding"), std::string::npos);
  EXPECT_EQ(framed("0123456789abcdef", chunked), "10\r\n0123456789abcdef\r\n");
  EXPECT_EQ(framed("", chunked), "");  // would end the body
  EXPECT_EQ(last_piece(chunked), "0\r\n\r\n");
  EXPECT_EQ(framed("abc", old), "abc");
  EXPECT_EQ(last_piece(old), "");
}

TEST(HttpAnswer, has_neither_length_nor_body_where_a_status_forbids_them) {
  for (const int status : {204, 304}) {
    const HttpResponse response{.status = status, .body = "x"};
    EXPECT_EQ(answer_head(response, {}).find("\r\nContent-"), std::string::npos);
    EXPECT_FALSE(has_body(response, {}));
  }
  EXPECT_FALSE(has_body({}, {.head_only = true}));
  EXPECT_TRUE(has_body({}, {}));
}

TEST(HttpAnswer, leaves_out_headers_that_would_break_the_answer) {
  const std::string text = answer_head({.content_type = "a\r\nX: 1",
                                        .headers = {{"A", "b\r\nSet-Cookie: c"},
                                                    {"B\n", "c"},
                                                    {"content-length", "7"},
                                                    {"Transfer-Encoding", "gzip"},
                                                    {"Allow", "GET, POST"}}},
                                       {.date = "D"});
  EXPECT_EQ(text,
            "HTTP/1.1 200 OK\r\nDate: D\r\nServer: quern\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 0\r\n"
            "Allow: GET, POST\r\n\r\n");
}

TEST(HttpAnswer, says_what_becomes_of_the_connection) {
  EXPECT_NE(answer_head({}, {.keep_alive = false}).find("Connection: close\r\n"), std::string::npos);
  EXPECT_NE(answer_head({}, {.http_1_1 = false}).find("Connection: keep-alive\r\n"), std::string::npos);
  EXPECT_EQ(answer_head({}, {}).find("Connection:"), std::string::npos);
}

}  // namespace
}  // namespace quern
