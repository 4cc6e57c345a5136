// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quern/server/call.h"

namespace quern {

struct CompletionAnswerOptions {
  int choices = 1;  ///< of all prompts
  int n = 1;        ///< of each prompt
  bool stream = false, include_usage = false;
  bool logprobs = false;
  std::vector<std::string> echo;  ///< the prompts' texts, where they stand before the answers; empty: they do not
};

/// Answers of /v1/completions: one object, or chunks.
std::shared_ptr<AnswerWriter> completion_answer(std::shared_ptr<ServedModel> model,
                                                std::shared_ptr<ResponseWriter> writer,
                                                CompletionAnswerOptions options);

}  // namespace quern
