// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/attention.h"

#include <algorithm>

#include "quern/base/check.h"
#include "quern/kernels/attention.h"

namespace quern {
namespace {

static_assert(kAttentionBlock == kKvPageTokens);
static_assert(static_cast<int>(KvType::f32) == 0 && static_cast<int>(KvType::bf16) == 1 &&
              static_cast<int>(KvType::int8) == 2);

/// Deals items to the workers: each goes to the one that has least so far. Every worker plays the whole game by itself
/// and comes to the same result, without a word between them.
class Deal {
 public:
  explicit Deal(const Worker& worker) : index_(worker.index()), count_(std::min(worker.count(), kMost)) {}
  /// Is the next item, of that cost, ours?
  bool mine(int64_t cost) {
    const auto least = std::min_element(load_, load_ + count_);
    *least += cost;
    return least - load_ == index_;
  }

 private:
  static constexpr int kMost = 256;  // workers beyond that get nothing
  int index_, count_;
  int64_t load_[kMost] = {};
};

void store_run(Deal& deal, const KernelTable& kernels, const AttentionRun& run, const float* k, const float* v,
               FunctionRef<void(int64_t, int)> prepare) {
  const KvLayout& layout = run.kv.layout;
  const int type = static_cast<int>(layout.type);
  for (int done = 0; done < run.count;) {
    const int64_t position = run.position + done;
    const int slot = static_cast<int>(position % kKvPageTokens);
    const int count = std::min(run.count - done, kKvPageTokens - slot);
    for (int head = 0; head < layout.heads; ++head) {
      if (!deal.mine(count)) continue;
      for (int64_t t = run.first + done; t < run.first + done + count; ++t) prepare(t, head);
      std::byte* keys = run.kv.pages[position / kKvPageTokens] + head * layout.head_bytes();
      const int64_t token = run.first + done, k_stride = int64_t{layout.heads} * layout.key_width,
                    v_stride = int64_t{layout.heads} * layout.value_width;
      kernels.attention->store_keys[type](
          {k + token * k_stride + int64_t{head} * layout.key_width, k_stride, count, layout.key_width, slot, keys});
      kernels.attention->store_values[type]({v + token * v_stride + int64_t{head} * layout.value_width, v_stride, count,
                                             layout.value_width, slot, keys + layout.key_bytes()});
    }
    done += count;
  }
}

/// Into how many parts the query heads of a kv head are cut, so that few tokens still give every worker something.
int head_parts(const AttentionArgs& args, int workers) {
  int64_t items = 0;
  int group = 1;
  for (const AttentionRun& run : args.runs) {
    group = args.q_heads / run.kv.layout.heads;
    const int tokens = std::max(1, kAttentionRows / group);
    items += int64_t{run.kv.layout.heads} * ((run.count + tokens - 1) / tokens);
  }
  // More heads than one call holds rows for are cut in any case.
  const int64_t needed = std::max<int64_t>(items < workers ? (workers + items - 1) / std::max<int64_t>(items, 1) : 1,
                                           (group + kAttentionRows - 1) / kAttentionRows);
  return static_cast<int>(std::min<int64_t>(group, needed));
}

/// In tokens read: fetching a page costs about as much as four rows' work on it.
int64_t tile_cost(int64_t position, int tokens, int heads, int64_t window) {
  const int64_t newest = position + tokens, oldest = window > 0 ? std::max<int64_t>(0, position - window) : 0;
  return (newest - oldest + kAttentionBlock) * (tokens * heads + 4);
}

void attend_run(Deal& deal, const KernelTable& kernels, const AttentionArgs& args, const AttentionRun& run, int parts) {
  const KvLayout& layout = run.kv.layout;
  const auto attend = attention_form(kernels, layout.type) == AttentionForm::bf16
                          ? kernels.attention->attend_bf16
                          : kernels.attention->attend[static_cast<int>(layout.type)];
  const int group = args.q_heads / layout.heads;
  const int part_heads = (group + parts - 1) / parts;
  const int tile_tokens = std::max(1, kAttentionRows / part_heads);
  if (run.count == 0) return;
  // Last tiles first: they see most, and large items dealt first leave small ones to even out.
  const int last_tile = (run.count - 1) / tile_tokens * tile_tokens;
  for (int head = 0; head < layout.heads; ++head)
    for (int begin = 0; begin < group; begin += part_heads)
      for (int done = last_tile; done >= 0; done -= tile_tokens) {
        const int tokens = std::min(tile_tokens, run.count - done), heads = std::min(part_heads, group - begin);
        if (!deal.mine(tile_cost(run.position + done, tokens, heads, args.window))) continue;
        const int64_t token = run.first + done, q_head = int64_t{head} * group + begin;
        const int64_t q_stride = int64_t{args.q_heads} * layout.key_width,
                      out_stride = int64_t{args.q_heads} * layout.value_width;
        attend({.pages = run.kv.pages.data(),
                .keys_offset = head * layout.head_bytes(),
                .values_offset = head * layout.head_bytes() + layout.key_bytes(),
                .key_width = layout.key_width,
                .value_width = layout.value_width,
                .q = args.q + token * q_stride + q_head * layout.key_width,
                .q_stride = q_stride,
                .out = args.out + token * out_stride + q_head * layout.value_width,
                .out_stride = out_stride,
                .tokens = tokens,
                .heads = heads,
                .position = run.position + done,
                .scale = args.scale,
                .window = args.window,
                .sinks = args.sinks ? args.sinks + q_head : nullptr});
      }
}

}  // namespace

void store_kv(const Worker& worker, const KernelTable& kernels, std::span<const AttentionRun> runs, const float* k,
              const float* v, FunctionRef<void(int64_t, int)> prepare) {
  Deal deal(worker);
  for (const AttentionRun& run : runs) store_run(deal, kernels, run, k, v, prepare);
}

AttentionForm attention_form(const KernelTable& kernels, KvType type) {
  return type == KvType::bf16 ? kernels.attention_form : AttentionForm::f32;
}

void attention(const Worker& worker, const KernelTable& kernels, const AttentionArgs& args) {
  const int parts = head_parts(args, worker.count());
  Deal deal(worker);
  for (const AttentionRun& run : args.runs) {
    QUERN_DCHECK(args.q_heads % run.kv.layout.heads == 0, "query heads are a multiple of kv heads");
    attend_run(deal, kernels, args, run, parts);
  }
}

}  // namespace quern
