// SPDX-License-Identifier: Apache-2.0
// The one file that includes Boost.Beast.
#include "quern/server/http_reader.h"

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <utility>

namespace quern {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;
using BeastString = boost::beast::string_view;

// Room for a body is taken as it comes: a length that is only claimed costs nothing.
constexpr size_t kReserveBytes = 64 << 10;

std::string lower_case(BeastString text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// The path a broken head seems to ask for, so that the refusal has the shape of its dialect; often empty.
std::string likely_path(std::string_view head) {
  const std::string_view line = head.substr(0, head.find('\r'));
  const size_t begin = line.find(' ');
  if (begin == std::string_view::npos) return {};
  const std::string_view target = line.substr(begin + 1, line.find_first_of(" ?", begin + 1) - begin - 1);
  return percent_decode(target).value_or("");
}

/// A request line that is right but for its version.
bool is_other_version(std::string_view head) {
  const std::string_view line = head.substr(0, head.find('\r'));
  const size_t at = line.rfind(' ');
  if (at == std::string_view::npos || line.size() - at != 9) return false;
  const std::string_view version = line.substr(at + 1);
  return version.starts_with("HTTP/") && version[6] == '.' && version[5] >= '0' && version[5] <= '9' &&
         version[7] >= '0' && version[7] <= '9';
}

/// Fills the head of a request with what Beast finds.
class HeadParser : public http::basic_parser<true> {
 public:
  explicit HeadParser(HttpRequest& request) : request_(&request) {
    this->body_limit(boost::none);
    this->eager(false);
  }

  std::string target;
  int version = 0;  // 10 or 11
  bool bad_name = false;

 private:
  void on_request_impl(http::verb, BeastString method, BeastString found, int number, ErrorCode&) override {
    version = number;
    request_->method = std::string(method);
    target = std::string(found);
  }
  void on_field_impl(http::field, BeastString name, BeastString value, ErrorCode&) override {
    std::string key = lower_case(name);
    const NameRule rule = rule_of_name(key);
    bad_name = bad_name || rule == NameRule::refuse;
    if (rule == NameRule::keep) request_->headers.emplace_back(std::move(key), std::string(value));
  }
  // Never called: no response, no body.
  void on_response_impl(int, BeastString, int, ErrorCode&) override {}
  void on_header_impl(ErrorCode&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
  size_t on_body_impl(BeastString, ErrorCode&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, BeastString, ErrorCode&) override {}
  size_t on_chunk_body_impl(std::uint64_t, BeastString, ErrorCode&) override { return 0; }
  void on_finish_impl(ErrorCode&) override {}

  HttpRequest* request_;
};

}  // namespace

HttpReader::HttpReader(const HttpLimits& limits) : limits_(&limits), scan_(limits) {}

void HttpReader::refuse(Refusal refusal) {
  state_ = State::refused;
  refusal_ = refusal;
}

size_t HttpReader::feed(std::string_view bytes) {
  // Exceptions of Beast and of the memory it wants stop here.
  try {
    return state_ == State::head ? feed_head(bytes) : feed_body(bytes);
  } catch (...) {
    refuse({503, "out of memory"});
    return 0;
  }
}

size_t HttpReader::feed_head(std::string_view bytes) {
  // One empty line before a request is forgiven: some clients send it behind a body (RFC 9112, 2.2).
  if (!skipped_line_ && bytes.starts_with("\r\n")) {
    skipped_line_ = true;
    return 2;
  }
  if (!skipped_line_ && bytes == "\r") return 0;
  skipped_line_ = true;
  const bool whole = scan_.scan(bytes);
  const std::string_view head = bytes.substr(0, scan_.head_bytes());
  if (scan_.refusal()) {
    request_.path = likely_path(head);
    refuse(*scan_.refusal());
    return 0;
  }
  if (!whole) return 0;

  HeadParser parser(request_);
  ErrorCode error;
  const size_t used = parser.put(boost::asio::buffer(head.data(), head.size()), error);
  request_.path = likely_path(head);
  if (error || !parser.is_header_done() || used != head.size()) {
    const bool version = error == http::error::bad_version && is_other_version(head);
    refuse(version ? Refusal{505, "expected HTTP/1.1"} : Refusal{400, "the head of the request is malformed"});
    return 0;
  }
  http_1_1_ = parser.version == 11;
  Target target;
  std::optional<Refusal> wrong;
  if (parser.bad_name) wrong = Refusal{400, "a header name has an underscore in place of a hyphen"};
  if (!wrong) wrong = check_framing(request_.headers, http_1_1_);
  if (!wrong && parser.target.size() > limits_->target_bytes) wrong = {414, "the request target is too long"};
  if (!wrong) wrong = read_target(request_.method, parser.target, header(request_.headers, "host"), target);
  if (wrong) {
    refuse(*wrong);
    return 0;
  }
  request_.path = std::move(target.path);
  request_.query = std::move(target.query);
  keep_alive_ = parser.keep_alive();
  has_body_ = !parser.is_done();
  if (const auto length = parser.content_length()) content_length_ = *length;
  if (parser.chunked()) chunks_.emplace(limits_->body_bytes);
  state_ = has_body_ ? State::body : State::done;
  return used;
}

size_t HttpReader::feed_body(std::string_view bytes) {
  std::string& body = request_.body;
  if (chunks_) {
    const size_t used = chunks_->feed(bytes, body);
    if (chunks_->refusal()) refuse(*chunks_->refusal());
    if (chunks_->is_done()) state_ = State::done;
    return used;
  }
  const uint64_t length = *content_length_;
  if (length > limits_->body_bytes) {
    refuse({413, "the body is too large"});
    return 0;
  }
  if (body.empty()) body.reserve(static_cast<size_t>(std::min<uint64_t>(length, kReserveBytes)));
  const size_t used = static_cast<size_t>(std::min<uint64_t>(length - body.size(), bytes.size()));
  body.append(bytes, 0, used);
  if (body.size() == length) state_ = State::done;
  return used;
}

}  // namespace quern
