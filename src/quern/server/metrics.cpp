// SPDX-License-Identifier: Apache-2.0
#include "quern/server/metrics.h"

#include <fmt/format.h>

#include <string_view>

namespace quern {
namespace {

struct Metric {
  std::string_view name, type, help;
  int64_t EngineFacts::* value;
};
constexpr Metric kMetrics[] = {
    {"quern_requests_running", "gauge", "Requests that have a place.", &EngineFacts::running},
    {"quern_requests_waiting", "gauge", "Requests that wait for a place.", &EngineFacts::waiting},
    {"quern_kv_pages_active", "gauge", "Pages held by running requests, without those only the prefix cache holds.",
     &EngineFacts::pages_active},
    {"quern_prefix_cache_blocks", "gauge", "Blocks of 64 tokens in the prefix cache.", &EngineFacts::cache_blocks},
    {"quern_prefix_cache_bytes", "gauge", "Memory of the prefix cache, shared pages included.",
     &EngineFacts::cache_bytes},
    {"quern_state_bytes", "gauge", "Memory of past tokens, of requests and cache together.", &EngineFacts::state_bytes},
    {"quern_state_limit_bytes", "gauge", "What that may come to.", &EngineFacts::state_limit_bytes},
    {"quern_scratch_bytes", "gauge", "Memory of forward passes, beside weights and state.",
     &EngineFacts::scratch_bytes},
    {"quern_requests_total", "counter", "Requests that came.", &EngineFacts::requests},
    {"quern_prompt_tokens_total", "counter", "Tokens of their prompts.", &EngineFacts::prompt_tokens},
    {"quern_prefix_cache_hit_tokens_total", "counter", "Tokens of prompts found in the prefix cache.",
     &EngineFacts::cached_tokens},
    {"quern_tokens_generated_total", "counter", "Tokens generated.", &EngineFacts::generated_tokens},
    {"quern_drafted_tokens_total", "counter", "Tokens guessed by speculation.", &EngineFacts::drafted_tokens},
    {"quern_accepted_tokens_total", "counter", "Of these, guesses that were right.", &EngineFacts::accepted_tokens},
    {"quern_preemptions_total", "counter", "Times a request lost its place for lack of memory.",
     &EngineFacts::preemptions},
    {"quern_steps_total", "counter", "Forward passes.", &EngineFacts::steps},
};

/// A label's value: backslash, quote and line feed are escaped.
std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

}  // namespace

std::string metrics_text(std::span<const std::pair<std::string, EngineFacts>> engines) {
  std::string out;
  for (const Metric& metric : kMetrics) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.type);
    for (const auto& [model, facts] : engines)
      out += fmt::format("{}{{model=\"{}\"}} {}\n", metric.name, label(model), facts.*metric.value);
  }
  return out;
}

}  // namespace quern
