// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/answer.h"

#include <algorithm>
#include <atomic>

#include "quern/chat/reasoning.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/progress.h"

namespace quern {
namespace {

constexpr std::string_view kDim = "\033[2m", kPlain = "\033[0m";

double rate(int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

/// The first token comes from the prompt's logits, so a rate is one of steps, not of tokens.
double decode_rate(const Generated& g) { return rate(g.decode_steps, g.decode_seconds); }

std::string tokens_text(int64_t n) { return fmt::format("{} {}", n, n == 1 ? "token" : "tokens"); }

std::string with_rate(int64_t tokens, double rate) {
  return rate > 0 ? fmt::format("{}, {:.1f} tokens/s", tokens_text(tokens), rate) : tokens_text(tokens);
}

/// Puts pieces of text where they belong and remembers them.
class AnswerStream {
 public:
  AnswerStream(const AnswerStyle& style, AnswerPlace place, Output& out) : style_(style), out_(out), splitter_(place) {}

  void push(std::string_view piece) {
    if (style_.split_reasoning)
      add(splitter_.push(piece));
    else
      add({{}, std::string(piece)});
  }

  void finish() {
    if (style_.split_reasoning) add(splitter_.flush());
    end_reasoning();
    out_.flush();
  }

  std::string text, reasoning;

 private:
  void add(const ReasoningSplitter::Piece& piece) {
    reasoning += piece.reasoning;
    text += piece.answer;
    if (!style_.stream) return;
    if (style_.show_reasoning && !piece.reasoning.empty()) {
      if (!in_reasoning_ && style_.dim_reasoning) out_.write(kDim);
      in_reasoning_ = true;
      out_.write(piece.reasoning);
    }
    if (!piece.answer.empty()) {
      end_reasoning();
      out_.write(piece.answer);
    }
    out_.flush();
  }

  void end_reasoning() {
    if (!in_reasoning_) return;
    in_reasoning_ = false;
    if (style_.dim_reasoning) out_.write(kPlain);
    out_.write("\n\n");
  }

  const AnswerStyle& style_;
  Output& out_;
  ReasoningSplitter splitter_;
  bool in_reasoning_ = false;
};

}  // namespace

Result<Answer> write_answer(LoadedModel& model, Session& session, const Prompt& prompt, const GenerateOptions& options,
                            const AnswerStyle& style, Output& out) {
  AnswerStream stream(style, prompt.answer_place, out);
  Progress progress("reading the prompt", Unit::tokens, style.quiet);
  // Text that comes is progress of its own.
  Progress writing("answering", Unit::tokens, style.quiet || style.stream);
  const auto prompt_tokens = static_cast<int64_t>(prompt.ids.size());
  const int64_t limit = options.max_tokens < 0 ? 0 : std::min(options.max_tokens, session.max_length() - prompt_tokens);
  std::atomic<bool>& cancel = interrupt_flag();
  const auto on_text = [&](std::string_view text) {
    stream.push(text);
    writing.update(session.length() - prompt_tokens, limit);
    if (out.closed()) cancel.store(true);  // nobody reads: no reason to go on
  };
  const auto on_prompt = [&](int64_t done, int64_t total) {
    if (done < total)
      progress.update(done, total);
    else
      progress.clear();
  };
  auto generated = generate(session, model.tokenizer(), prompt.ids, options, {on_text, on_prompt}, cancel);
  writing.clear();
  stream.finish();
  if (!generated) return std::move(generated).error();
  return Answer{*std::move(generated), std::move(stream.text), std::move(stream.reasoning)};
}

Json answer_json(const Answer& answer, uint64_t seed) {
  const Generated& g = answer.generated;
  Json out;
  out.set("text", answer.text);
  out.set("reasoning", answer.reasoning);
  out.set("tool_calls", Json::Array());
  out.set("finish_reason", finish_reason_name(g.finish));
  out.set("ids", Json::Array(g.ids.begin(), g.ids.end()));
  out.set("prompt_tokens", g.prompt_tokens);
  out.set("completion_tokens", static_cast<int64_t>(g.ids.size()));
  out.set("prefill_tps", rate(g.prompt_tokens - g.reused_tokens, g.prompt_seconds));
  out.set("decode_tps", decode_rate(g));
  out.set("first_token_ms", g.first_token_seconds * 1e3);
  out.set("seed", seed);
  return out;
}

std::string speed_text(const Generated& g) {
  const int64_t read = g.prompt_tokens - g.reused_tokens;
  const std::string known = g.reused_tokens > 0 ? fmt::format(" (and {} known)", g.reused_tokens) : std::string();
  return fmt::format("{}; prompt {}{}, {:.1f} tokens/s{}",
                     with_rate(static_cast<int64_t>(g.ids.size()), decode_rate(g)), tokens_text(read), known,
                     rate(read, g.prompt_seconds), g.finish == FinishReason::length ? "; stopped at the limit" : "");
}

}  // namespace quern
