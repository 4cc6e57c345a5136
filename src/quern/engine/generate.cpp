// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/generate.h"

#include <algorithm>
#include <chrono>

#include "quern/engine/stop_matcher.h"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  static constexpr std::string_view names[] = {"stop", "length", "cancelled"};
  return names[static_cast<int>(reason)];
}

Result<Generated> generate(Session& session, const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                           const GenerateOptions& options, const GenerateEvents& events,
                           const std::atomic<bool>& cancel) {
  Generated out;
  out.prompt_tokens = static_cast<int64_t>(prompt.size());
  const auto start = Clock::now();
  auto read = session.prompt(prompt, [&](int64_t done, int64_t total) {
    events.prompt_progress(done, total);
    return done == total || !cancel.load(std::memory_order_relaxed);
  });
  out.reused_tokens = session.reused();
  out.prompt_seconds = seconds_since(start);
  if (!read) {
    if (read.error().code != ErrorCode::cancelled) return std::move(read).error();
    out.finish = FinishReason::cancelled;
    return out;
  }

  // Rows of the output head beyond the vocabulary have no token: never drawn.
  const auto n_ids = static_cast<size_t>(tokenizer.size());
  std::span<const float> logits = *read;
  logits = logits.first(std::min(logits.size(), n_ids));
  Sampler sampler(options.sampling, static_cast<int64_t>(logits.size()));
  const int64_t room = session.max_length() - session.length();
  const int64_t limit = options.max_tokens < 0 ? room : std::min(options.max_tokens, room);
  sampler.reserve(out.prompt_tokens + limit);
  out.ids.reserve(static_cast<size_t>(limit));
  for (TokenId id : prompt) sampler.accept(id);
  StreamDecoder decoder(tokenizer);
  StopMatcher stops(options.stops);
  const auto emit = [&](std::string_view text) {
    if (text.empty()) return;
    out.text += text;
    events.text(text);
  };
  const auto decode_start = Clock::now();
  while (static_cast<int64_t>(out.ids.size()) < limit) {
    if (cancel.load(std::memory_order_relaxed)) {
      out.finish = FinishReason::cancelled;
      break;
    }
    const TokenId id = sampler.sample(logits);
    if (out.ids.empty()) out.first_token_seconds = seconds_since(start);
    const bool ends =
        tokenizer.is_end(id) || std::find(options.end_ids.begin(), options.end_ids.end(), id) != options.end_ids.end();
    if (ends && !options.ignore_end) {
      out.finish = FinishReason::stop;
      break;
    }
    sampler.accept(id);
    out.ids.push_back(id);
    emit(stops.push(decoder.push(id)));
    if (stops.stopped()) {
      out.finish = FinishReason::stop;
      break;
    }
    if (static_cast<int64_t>(out.ids.size()) == limit) break;  // nobody asks for the logits after the last one
    QUERN_TRY(std::span<const float> next, session.append(id));
    ++out.decode_steps;
    logits = next.first(std::min(next.size(), n_ids));
  }
  if (!stops.stopped()) {
    emit(stops.push(decoder.flush()));
    emit(stops.flush());
  }
  out.decode_seconds = seconds_since(decode_start);
  return out;
}

}  // namespace quern
