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

/// What a run of the delta rule leaves in its journal, head by head, so that each lies together: k [key_heads][tokens]
/// [key_width], δ [value_heads][tokens][value_width], e^g [value_heads][tokens]. T: float or const float.
template <typename T>
struct HeadJournal {
  T *k, *delta, *decay;

  template <typename Args>
  HeadJournal(T* journal, int64_t tokens, const Args& args, int64_t key_head, int64_t head) {
    T* deltas = journal + tokens * args.key_heads * args.key_width;
    T* decays = deltas + tokens * args.value_heads * args.value_width;
    k = journal + key_head * tokens * args.key_width;
    delta = deltas + head * tokens * args.value_width;
    decay = decays + head * tokens;
  }
};

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
  float *log_delta = nullptr, *log_decay = nullptr;
  if (run.journal) {
    QUERN_CHECK(run.count <= kMostVerifiedTokens && args.key_width <= kMostVerifiedRows, "too much to take back");
    const HeadJournal<float> log(run.journal, run.count, args, key_head, head);
    log_delta = log.delta + column;
    if (column == 0) log_decay = log.decay;
    if (column == 0 && is_first_of_key_head(args, head))
      for (int64_t t = 0; t < run.count; ++t)
        std::copy_n(args.k + row + t * args.qkv_stride + key_head * args.key_width, args.key_width,
                    log.k + t * args.key_width);
  }
  kernels.delta->delta_rule({.q = args.q + row + key_head * args.key_width,
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
                             .log_delta = log_delta,
                             .log_stride = args.value_width,
                             .log_decay = log_decay});
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
      const int64_t from = j + run.kept;
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
  for_each_piece(worker, args, [&](const ReplayRun& run, int64_t head, int64_t column, int64_t columns) {
    const HeadJournal<const float> log(run.journal, run.count, args, key_head_of(args, head), head);
    kernels.delta->delta_replay({.k = log.k,
                                 .delta = log.delta + column,
                                 .delta_stride = args.value_width,
                                 .decay = log.decay,
                                 .state = run.state + head * args.key_width * args.value_width + column,
                                 .state_stride = args.value_width,
                                 .tokens = run.kept,
                                 .key_width = args.key_width,
                                 .columns = static_cast<int>(columns)});
  });
}

}  // namespace quern
