// SPDX-License-Identifier: Apache-2.0
// Any bytes as a request get exactly one whole answer. The input is a line with method and path, then the body. An
// answer of 4xx and 5xx is an error in its dialect's shape, every event of a stream is UTF-8 by itself.
#include <cstdint>
#include <string_view>

#include "quern/base/utf8.h"
#include "quern/server/errors.h"
#include "quern/server/testing.h"

namespace {

void require(bool condition) {
  if (!condition) __builtin_trap();
}

bool has_shape(quern::Dialect dialect, const quern::Json& body) {
  const quern::Json* error = body.find("error");
  if (!error) return false;
  return dialect == quern::Dialect::ollama ? error->is_string()
                                           : error->find("message") != nullptr && error->find("type") != nullptr;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static quern::testing::TestServer server;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view line = input.substr(0, input.find('\n'));
  const size_t blank = std::min(line.find(' '), line.size());
  const std::string_view path = line.substr(std::min(blank + 1, line.size()));
  const std::string_view body = input.substr(std::min(line.size() + 1, input.size()));
  const auto answer = server.call(line.substr(0, blank), path, std::string(body));
  server.model->forget();
  require(answer->begun && answer->ended);
  for (const std::string& piece : answer->pieces) require(quern::utf8_valid(piece));
  const int status = answer->response.status;
  require(status == 200 || (status >= 400 && status < 600 && status != 500));
  if (status != 200) require(has_shape(quern::dialect_of(path), answer->json()));
  return 0;
}
