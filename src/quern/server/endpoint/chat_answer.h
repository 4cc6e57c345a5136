// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "quern/server/call.h"

namespace quern {

struct ChatAnswerOptions {
  int n = 1;
  bool stream = false, include_usage = false, logprobs = false;
};

/// Answers of /v1/chat/completions: one object, or chunks.
std::shared_ptr<AnswerWriter> chat_answer(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                                          const ChatAnswerOptions& options);

}  // namespace quern
