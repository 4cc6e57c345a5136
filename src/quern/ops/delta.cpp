// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/delta.h"

#include <algorithm>

#include "quern/kernels/delta.h"

namespace quern {
namespace {
// Channels and state columns are cut at cache lines.
constexpr int64_t kGrain = 16;
// Columns of a head's state that one worker walks at a time.
constexpr int64_t kStrip = 32;

void walk_head(const KernelTable& kernels, const DeltaArgs& args, const RecurrentRun& run, int64_t head, int64_t column,
               int64_t columns) {
  const int64_t key_head = args.interleaved_heads ? head % args.key_heads : head / (args.value_heads / args.key_heads);
  const int64_t row = run.first * args.qkv_stride, out_stride = int64_t{args.value_heads} * args.value_width;
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
                             .columns = static_cast<int>(columns)});
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
                              .taps = kernel});
}

void delta_rule(const Worker& worker, const KernelTable& kernels, const DeltaArgs& args) {
  const int64_t strips = (args.value_width + kStrip - 1) / kStrip, per_run = args.value_heads * strips;
  const auto [begin, end] = worker.share(per_run * static_cast<int64_t>(args.runs.size()));
  for (int64_t item = begin; item < end;) {
    // As many strips of one head as are ours: they share what is computed once per token.
    const int64_t count = std::min(end - item, strips - item % strips);
    const int64_t head = item % per_run / strips, column = item % strips * kStrip;
    const int64_t columns = std::min(count * kStrip, args.value_width - column);
    walk_head(kernels, args, args.runs[item / per_run], head, column, columns);
    item += count;
  }
}

}  // namespace quern
