// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/delta.h"

#include <algorithm>

#include "quern/base/check.h"
#include "quern/kernels/delta.h"

namespace quern {
namespace {
// Channels and state columns are cut at cache lines.
constexpr int64_t kGrain = 16;
// Columns of a head's state that one worker walks at a time.
constexpr int64_t kStrip = 32;

/// What a token of the delta rule leaves in a journal: k, δ and e^g, one behind the other.
struct JournalRow {
  int64_t delta, decay, floats;
};
template <typename Args>
JournalRow journal_row(const Args& args) {
  const int64_t delta = int64_t{args.key_heads} * args.key_width;
  return {delta, delta + int64_t{args.value_heads} * args.value_width,
          delta_journal_floats(args.key_heads, args.value_heads, args.key_width, args.value_width)};
}

template <typename Args>
int64_t key_head_of(const Args& args, int64_t head) {
  return args.interleaved_heads ? head % args.key_heads : head / (args.value_heads / args.key_heads);
}
/// Several value heads share a key head; one of them logs its k.
template <typename Args>
bool is_first_of_key_head(const Args& args, int64_t head) {
  return args.interleaved_heads ? head < args.key_heads : head % (args.value_heads / args.key_heads) == 0;
}

/// Calls fn(run, head, column, columns) for this worker's share: as many strips of one head at a time as are its own,
/// since they share what is computed once per token.
template <typename Args, typename Fn>
void for_each_piece(const Worker& worker, const Args& args, Fn&& fn) {
  const int64_t strips = (args.value_width + kStrip - 1) / kStrip, per_run = args.value_heads * strips;
  const auto [begin, end] = worker.share(per_run * static_cast<int64_t>(args.runs.size()));
  for (int64_t item = begin; item < end;) {
    const int64_t count = std::min(end - item, strips - item % strips);
    const int64_t head = item % per_run / strips, column = item % strips * kStrip;
    fn(args.runs[item / per_run], head, column, std::min(count * kStrip, args.value_width - column));
    item += count;
  }
}

void walk_head(const KernelTable& kernels, const DeltaArgs& args, const RecurrentRun& run, int64_t head, int64_t column,
               int64_t columns) {
  const int64_t key_head = key_head_of(args, head);
  const int64_t row = run.first * args.qkv_stride, out_stride = int64_t{args.value_heads} * args.value_width;
  const JournalRow log = journal_row(args);
  if (run.journal) {
    QUERN_CHECK(run.count <= kMostVerifiedTokens && args.key_width <= kMostVerifiedRows, "too much to take back");
    if (column == 0 && is_first_of_key_head(args, head))
      for (int64_t t = 0; t < run.count; ++t)
        std::copy_n(args.k + row + t * args.qkv_stride + key_head * args.key_width, args.key_width,
                    run.journal + t * log.floats + key_head * args.key_width);
  }
  kernels.delta->delta_rule(
      {.q = args.q + row + key_head * args.key_width,
       .k = args.k + row + key_head * args.key_width,
       .v = args.v + row + head * args.value_width + column,
       .qkv_stride = args.qkv_stride,
       .gate = args.gate + int64_t{run.first} * args.value_heads + head,
       .beta = args.beta + int64_t{run.first} * args.value_heads + head,
       .gate_stride = args.value_heads,
       .out = args.out + run.first * out_stride + head * args.value_width + column,
       .out_stride = out_stride,
       .state = run.state + head * args.key_width * args.value_width + column,
       .state_stride = args.value_width,
       .tokens = run.count,
       .key_width = args.key_width,
       .columns = static_cast<int>(columns),
       .log_delta = run.journal ? run.journal + log.delta + head * args.value_width + column : nullptr,
       .log_decay = run.journal && column == 0 ? run.journal + log.decay + head : nullptr,
       .log_stride = log.floats});
}
}  // namespace

void causal_conv_silu(const Worker& worker, const KernelTable& kernels, std::span<const RecurrentRun> runs,
                      const float* x, int64_t x_stride, const float* weight, int kernel, int64_t channels, float* out,
                      int64_t out_stride) {
  const auto [begin, end] = worker.share(channels, kGrain);
  if (begin >= end) return;
  for (const RecurrentRun& run : runs)
    kernels.delta->conv_silu({.x = x + run.first * x_stride + begin,
                              .x_stride = x_stride,
                              .weight = weight + begin * kernel,
                              .state = run.state + begin,
                              .state_stride = channels,
                              .out = out + run.first * out_stride + begin,
                              .out_stride = out_stride,
                              .tokens = run.count,
                              .channels = end - begin,
                              .taps = kernel,
                              .keep_state = run.journal != nullptr});
  for (const RecurrentRun& run : runs)
    for (int64_t t = 0; run.journal && t < run.count; ++t) {
      const float* row = x + (run.first + t) * x_stride;
      std::copy(row + begin, row + end, run.journal + t * channels + begin);
    }
}

void causal_conv_replay(const Worker& worker, std::span<const ReplayRun> runs, int kernel, int64_t channels) {
  const auto [begin, end] = worker.share(channels, kGrain);
  for (const ReplayRun& run : runs)
    for (int64_t j = 0; j < kernel - 1; ++j) {  // oldest first, so that a row is read before it is overwritten
      const int64_t from = j + run.count;
      const float* row = from < kernel - 1 ? run.state + from * channels : run.journal + (from - kernel + 1) * channels;
      std::copy(row + begin, row + end, run.state + j * channels + begin);
    }
}

void delta_rule(const Worker& worker, const KernelTable& kernels, const DeltaArgs& args) {
  for_each_piece(worker, args, [&](const RecurrentRun& run, int64_t head, int64_t column, int64_t columns) {
    walk_head(kernels, args, run, head, column, columns);
  });
}

void delta_replay(const Worker& worker, const KernelTable& kernels, const DeltaReplayArgs& args) {
  const JournalRow log = journal_row(args);
  for_each_piece(worker, args, [&](const ReplayRun& run, int64_t head, int64_t column, int64_t columns) {
    kernels.delta->delta_replay({.k = run.journal + key_head_of(args, head) * args.key_width,
                                 .delta = run.journal + log.delta + head * args.value_width + column,
                                 .decay = run.journal + log.decay + head,
                                 .log_stride = log.floats,
                                 .state = run.state + head * args.key_width * args.value_width + column,
                                 .state_stride = args.value_width,
                                 .tokens = run.count,
                                 .key_width = args.key_width,
                                 .columns = static_cast<int>(columns)});
  });
}

}  // namespace quern
