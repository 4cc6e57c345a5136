// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http_rules.h"

#include <algorithm>
#include <utility>

namespace quern {
namespace {

// "GET ", " HTTP/1.1" and a margin for longer methods, around a target.
constexpr size_t kAroundTarget = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_alphanumeric(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

/// The characters of `host [":" port]` in RFC 3986; what is left out is what parsers of addresses fight over: / ? # @
/// \ .
bool is_host_char(char c) {
  return is_alphanumeric(c) || std::string_view("-._~!$&'()*+,;=%:[]").find(c) != std::string_view::npos;
}

bool is_target_char(char c) { return c > 0x20 && c < 0x7f && c != '#'; }

constexpr size_t kMostLengthDigits = 19;  // below 2^64 whatever they are

}  // namespace

bool HeadScan::refuse(int status, std::string_view message) {
  refusal_ = Refusal{status, message};
  return false;
}

bool HeadScan::scan(std::string_view bytes) {
  for (; seen_ < bytes.size(); ++seen_) {
    const char c = bytes[seen_];
    const bool after_return = seen_ > line_start_ && bytes[seen_ - 1] == '\r';
    if (seen_ >= limits_->header_bytes) return refuse(431, "the head of the request is too long");
    if (after_return != (c == '\n')) return refuse(400, "a line of the head does not end in CR LF");
    if (lines_ == 0 && seen_ > limits_->target_bytes + kAroundTarget)
      return refuse(414, "the request target is too long");
    if (c == '\n') {
      const bool empty = seen_ - line_start_ == 1;
      line_start_ = seen_ + 1;
      if (empty && lines_ == 0) return refuse(400, "expected a request line, found an empty one");
      if (empty) return ++seen_, true;
      if (lines_++ > limits_->header_fields) return refuse(431, "too many header fields");
    } else if (is_control(c) && c != '\r' && c != '\t') {
      return refuse(400, "a control character in the head");
    } else if ((c == ' ' || c == '\t') && seen_ == line_start_) {
      return refuse(400, "a line of the head begins with a blank");
    }
  }
  return false;
}

bool is_token_char(char c) {
  return is_alphanumeric(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

std::optional<Refusal> check_framing(const HttpHeaders& headers, bool http_1_1) {
  int hosts = 0, lengths = 0, encodings = 0;
  for (const auto& [name, value] : headers) {
    if (name == "host") {
      ++hosts;
      if ((value.empty() && http_1_1) || !std::all_of(value.begin(), value.end(), is_host_char))
        return Refusal{400, "Host: expected a name or an address"};
    } else if (name == "content-length") {
      ++lengths;
      if (value.empty() || value.size() > kMostLengthDigits || !std::all_of(value.begin(), value.end(), is_digit))
        return Refusal{400, "Content-Length: expected one number"};
    } else if (name == "transfer-encoding") {
      ++encodings;
      if (!http_1_1) return Refusal{400, "Transfer-Encoding: not part of HTTP/1.0"};
      if (!same_but_case(value, "chunked")) return Refusal{501, "Transfer-Encoding: only chunked is supported"};
    }
  }
  if (hosts > 1) return Refusal{400, "Host: given more than once"};
  if (hosts == 0 && http_1_1) return Refusal{400, "Host: missing"};
  if (lengths + encodings > 1) return Refusal{400, "the length of the body is given more than once"};
  return std::nullopt;
}

NameRule rule_of_name(std::string_view name) {
  if (name.find('_') == std::string_view::npos) return NameRule::keep;
  std::string hyphened(name);
  std::replace(hyphened.begin(), hyphened.end(), '_', '-');
  return hyphened == "content-length" || hyphened == "transfer-encoding" ? NameRule::refuse : NameRule::drop;
}

std::optional<Refusal> read_target(std::string_view method, std::string_view target, std::string_view host,
                                   Target& result) {
  const Refusal bad{400, "the request target is not a path of this server"};
  if (method == "CONNECT") return Refusal{501, "CONNECT: this is not a proxy"};
  if (!std::all_of(target.begin(), target.end(), is_target_char)) return bad;
  if (target == "*" && method == "OPTIONS") {
    result = {"*", ""};
    return std::nullopt;
  }
  constexpr std::string_view kScheme = "http://";
  if (same_but_case(target.substr(0, kScheme.size()), kScheme)) {
    target.remove_prefix(kScheme.size());
    const size_t authority = std::min(target.find_first_of("/?"), target.size());
    if (authority == 0 || !same_but_case(target.substr(0, authority), host)) return bad;
    target.remove_prefix(authority);
    if (target.empty() || target.front() == '?') {
      result = {"/", std::string(target.substr(target.empty() ? 0 : 1))};
      return std::nullopt;
    }
  }
  if (target.empty() || target.front() != '/') return bad;
  const size_t question = std::min(target.find('?'), target.size());
  auto path = percent_decode(target.substr(0, question));
  if (!path) return Refusal{400, "the request target has a broken escape or a control character"};
  result.path = *std::move(path);
  result.query = question < target.size() ? target.substr(question + 1) : "";
  return std::nullopt;
}

}  // namespace quern
