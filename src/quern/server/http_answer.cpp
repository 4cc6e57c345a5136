// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

namespace quern {
namespace {

constexpr std::string_view kOurs[] = {"connection", "content-length", "content-type", "date",
                                      "keep-alive", "server",         "trailer",      "transfer-encoding"};

bool is_ours(std::string_view name) {
  return std::any_of(std::begin(kOurs), std::end(kOurs),
                     [name](std::string_view ours) { return same_but_case(name, ours); });
}

bool fits_one_line(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; });
}

bool may_have_body(int status) { return status >= 200 && status != 204 && status != 304; }

}  // namespace

bool has_body(const HttpResponse& response, const AnswerForm& form) {
  return !form.head_only && may_have_body(response.status);
}

std::string answer_head(const HttpResponse& response, const AnswerForm& form) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: quern\r\nX-Content-Type-Options: nosniff\r\n",
                                response.status, status_text(response.status), form.date);
  const auto add = [&out](std::string_view name, std::string_view value) {
    fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value);
  };
  if (may_have_body(response.status)) {
    if (!response.content_type.empty() && fits_one_line(response.content_type))
      add("Content-Type", response.content_type);
    if (!form.in_pieces) {
      add("Content-Length", std::to_string(response.body.size()));
    } else if (form.http_1_1) {
      add("Transfer-Encoding", "chunked");
    }
  }
  for (const auto& [name, value] : response.headers) {
    const bool twice = is_ours(name) || same_but_case(name, "x-content-type-options");
    if (!twice && !name.empty() && fits_one_line(name) && fits_one_line(value)) add(name, value);
  }
  if (!form.keep_alive) {
    add("Connection", "close");
  } else if (!form.http_1_1) {
    add("Connection", "keep-alive");
  }
  out += "\r\n";
  return out;
}

std::string framed(std::string piece, const AnswerForm& form) {
  if (piece.empty() || !form.http_1_1) return piece;
  return fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
}

std::string_view last_piece(const AnswerForm& form) { return form.http_1_1 ? "0\r\n\r\n" : ""; }

std::string http_date(int64_t seconds) {
  constexpr std::string_view kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::string_view kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t time = seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[parts.tm_wday], parts.tm_mday,
                     kMonths[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

}  // namespace quern
