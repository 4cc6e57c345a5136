// SPDX-License-Identifier: Apache-2.0
// Bytes of a connection, cut in two ways: the same requests and the same refusal, and nothing in them that a rule
// forbids. The first byte of the input chooses the cut.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/utf8.h"
#include "quern/server/http_reader.h"

namespace {

using quern::HttpReader;

void require(bool condition) {
  if (!condition) __builtin_trap();
}

constexpr quern::HttpLimits kLimits{.header_bytes = 2048, .header_fields = 16, .target_bytes = 256, .body_bytes = 512};

struct Outcome {
  std::vector<quern::HttpRequest> requests;
  int refused = 0;
};

bool has_controls(std::string_view text) {
  for (const char c : text)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return true;
  return false;
}

void require_sound(const quern::HttpRequest& request) {
  require(!request.method.empty() && request.path.starts_with(request.path == "*" ? '*' : '/'));
  require(!has_controls(request.path) && !has_controls(request.query) && quern::utf8_valid(request.path));
  require(request.body.size() <= kLimits.body_bytes && request.headers.size() <= kLimits.header_fields);
  size_t lengths = 0, hosts = 0;
  for (const auto& [name, value] : request.headers) {
    require(!name.empty() && !has_controls(value) && name.find_first_of("_ \t:ABCXYZ") == std::string::npos);
    require(value.empty() || (value.front() != ' ' && value.back() != ' '));
    lengths += name == "content-length" || name == "transfer-encoding";
    hosts += name == "host";
  }
  require(lengths <= 1 && hosts <= 1);
  const std::string_view length = quern::header(request.headers, "content-length");
  if (!length.empty()) require(std::stoull(std::string(length)) == request.body.size());
}

/// Reads one connection to its end, `step` bytes at a time.
Outcome read(std::string_view bytes, size_t step) {
  Outcome outcome;
  std::string buffer;
  auto reader = std::make_unique<HttpReader>(kLimits);
  for (size_t at = 0; at < bytes.size(); at += step) {
    buffer += bytes.substr(at, step);
    for (bool more = true; more && !buffer.empty();) {
      const auto before = reader->state();
      const size_t used = reader->feed(buffer);
      require(used <= buffer.size());
      buffer.erase(0, used);
      more = used > 0 || reader->state() != before;
      if (reader->state() == HttpReader::State::refused) {
        outcome.refused = reader->refusal().status;
        require(outcome.refused >= 400 && outcome.refused < 600 && outcome.refused != 503);
        return outcome;
      }
      if (reader->state() == HttpReader::State::done) {
        require_sound(reader->request());
        outcome.requests.push_back(std::move(reader->request()));
        reader = std::make_unique<HttpReader>(kLimits);
      }
    }
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = read(bytes, bytes.size() + 1), cut = read(bytes, size_t{data[0]} % 32 + 1);
  require(whole.requests.size() == cut.requests.size() && whole.refused == cut.refused);
  for (size_t i = 0; i < whole.requests.size(); ++i) {
    const auto &a = whole.requests[i], &b = cut.requests[i];
    require(a.method == b.method && a.path == b.path && a.query == b.query && a.headers == b.headers);
    require(a.body == b.body);
  }
  return 0;
}
