// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/chat/reasoning.h"
#include "quern/engine/request.h"
#include "quern/server/errors.h"
#include "quern/server/http.h"
#include "quern/server/served_model.h"

namespace quern {

/// A conversation in the form of the OpenAI API, whatever the dialect it came in.
struct ChatPrompt {
  Json messages;   ///< array of {role, content, tool_calls, ...}
  Json variables;  ///< object or null: chat_template_kwargs
};

/// A body after validation, the same for every dialect.
struct Call {
  /// A conversation, or prompts as ids (each an answer of its own).
  std::variant<ChatPrompt, std::vector<std::vector<TokenId>>> prompt;
  Request settings;  ///< without its prompt
  int n = 1;         ///< answers to each prompt; answer i of prompt p is choice p * n + i
  bool stream = false;
  bool split_reasoning = true;  ///< "<think>" apart; off for plain continuations
};

/// What is known when all choices have ended, or an error has ended them.
struct CallEnd {
  Usage usage;                   ///< of all choices; each prompt counts once
  int64_t reasoning_tokens = 0;  ///< of completion_tokens
};
struct ChoiceEnd {
  FinishReason finish = FinishReason::stop;
  std::string stop;  ///< the stop text that ended it
  std::vector<TokenInfo> prompt_logprobs;
  std::vector<float> embedding;
  Usage usage;  ///< of this choice alone, with its whole prompt
};

/// A dialect's side of a call: turns what comes into its events or its one object and writes them. Called on the
/// server's thread, one call at a time.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  /// The prompt is known: its tokens (of all prompts). Before anything else, at once; a stream begins here.
  virtual void begin(int64_t prompt_tokens) = 0;
  /// Nothing was told for a while, 0.4 to 0.8 s, and the call goes on: for the idle timers of clients. A dialect may
  /// pass on fewer of these.
  virtual void alive() = 0;
  /// A piece of one choice: reasoning and text (either may be empty), and the tokens drawn since the last piece.
  virtual void piece(int choice, std::string_view reasoning, std::string_view text,
                     std::span<const TokenInfo> tokens) = 0;
  virtual void end_choice(int choice, const ChoiceEnd& end) = 0;
  /// The last call: all choices have ended.
  virtual void end(const CallEnd& end) = 0;
  /// The last call: nothing more comes. Before `begin` it is an answer with a status, after it an event of a stream.
  virtual void fail(const Refusal& refusal) = 0;
};

/// Where work goes: `compute` to a thread that may take its time, `read` to another one, which may wait for a disk as
/// well, `serve` back to the server's thread, `later` there after some milliseconds.
struct Executors {
  std::function<void(std::function<void()>)> compute, read, serve;
  std::function<void(int milliseconds, std::function<void()>)> later;
};

/// Renders and tokenises the prompt, submits a request for each choice and passes what comes to `answer`; cancels them
/// when the client of `writer` goes. For `compute` threads: returns when all of that is submitted.
void run_call(std::shared_ptr<ServedModel> model, Call call, std::shared_ptr<AnswerWriter> answer,
              std::shared_ptr<ResponseWriter> writer, const Executors& executors);

/// The ids of a conversation, as `run_call` would read them. Where the assistant has the last word, with a text and
/// without calls, they end behind that text: the answer goes on from there.
struct RenderedPrompt {
  std::vector<TokenId> ids;
  AnswerPlace answer_place = AnswerPlace::start;
  std::vector<int64_t> message_starts;  ///< in ids, rising, as far as they can be told
  std::vector<int64_t> checkpoints;  ///< a handful of them, at most: where another prompt is likely to leave this one
};
Result<RenderedPrompt> render_prompt(const ServedModel& model, const ChatPrompt& prompt);

}  // namespace quern
