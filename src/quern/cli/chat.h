// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "quern/cli/answer.h"
#include "quern/cli/prompt.h"
#include "quern/engine/generate.h"
#include "quern/engine/loaded_model.h"

namespace quern {

struct ChatOptions {
  std::string system;
  GenerateOptions generate;  ///< its seed is the first answer's; each answer adds one
  Thinking thinking = Thinking::as_the_model_likes;
  AnswerStyle style;
};

/// A conversation at the terminal until /quit, Ctrl-D or two Ctrl-C. Returns the exit code.
int chat(LoadedModel& model, ChatOptions options);

}  // namespace quern
