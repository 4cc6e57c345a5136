// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "quern/base/json.h"
#include "quern/cli/output.h"
#include "quern/cli/prompt.h"
#include "quern/engine/generate.h"
#include "quern/engine/loaded_model.h"

namespace quern {

/// How an answer is shown while it is written.
struct AnswerStyle {
  bool stream = true;           ///< write the text as it comes; else only collect it
  bool split_reasoning = true;  ///< off for raw text
  bool show_reasoning = false;  ///< on a terminal, dimmed where it has colours
  bool dim_reasoning = false;
  bool quiet = false;
};

struct Answer {
  Generated generated;
  std::string text, reasoning;  ///< generated.text taken apart
};

/// Reads the prompt, writes the answer to `out` piece by piece. Stops for Ctrl-C, and when nobody reads `out` any more.
Result<Answer> write_answer(LoadedModel& model, Session& session, const Prompt& prompt, const GenerateOptions& options,
                            const AnswerStyle& style, Output& out);

/// The object of `run --json`. "decode_tps" counts steps of the model: 0 where the first token ended the answer.
Json answer_json(const Answer& answer, uint64_t seed);

/// "24 tokens, 80.1 tokens/s; prompt 13 tokens, 250.0 tokens/s"; the first rate only where the model took a step.
std::string speed_text(const Generated& generated);

}  // namespace quern
