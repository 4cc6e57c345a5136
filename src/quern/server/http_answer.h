// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "quern/server/http.h"

namespace quern {

/// How an answer goes out on its connection.
struct AnswerForm {
  bool http_1_1 = true;
  bool keep_alive = true;
  bool head_only = false;  ///< of a HEAD request: all headers, no body
  bool in_pieces = false;  ///< the length is not known: chunks, or until the connection ends for HTTP/1.0
  std::string_view date;   ///< as `http_date` has it
};

/// Whether bytes of a body follow the head of this answer.
bool has_body(const HttpResponse& response, const AnswerForm& form);

/// Status line and headers with the empty line. Headers of the response that tell a length or the connection's fate,
/// and those with characters that could end a line, are left out.
std::string answer_head(const HttpResponse& response, const AnswerForm& form);

/// One piece of a body as it goes out: a chunk, or itself. Empty pieces are nothing.
std::string framed(std::string piece, const AnswerForm& form);
/// What ends a body in pieces.
std::string_view last_piece(const AnswerForm& form);

/// "Sun, 06 Nov 1994 08:49:37 GMT" for seconds since 1970, whatever the locale.
std::string http_date(int64_t seconds);

}  // namespace quern
