// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/attention.h"

#include <algorithm>
#include <memory>
#include <numeric>

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
  int64_t most() const { return *std::max_element(load_, load_ + count_); }
  int64_t total() const { return std::accumulate(load_, load_ + count_, int64_t{0}); }

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

/// In what the kernels work, and false sharing is avoided.
constexpr int64_t kLineFloats = 16;  // of 64 bytes
int64_t whole_lines(int64_t floats) { return (floats + kLineFloats - 1) / kLineFloats * kLineFloats; }
int64_t result_stride(int value_width) { return kPieceValues + whole_lines(value_width); }

/// Most query rows of a tile.
int most_rows(int value_width) {
  return static_cast<int>(std::clamp<int64_t>(kAttentionOutputs / whole_lines(value_width), 1, kAttentionRows));
}

struct Pieces {
  int64_t first, last;
  int64_t count() const { return last - first + 1; }
};
/// What tokens at position .. position + tokens - 1 see.
Pieces pieces_seen(int64_t position, int tokens, int64_t window) {
  const int64_t oldest = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
  return {oldest / kAttentionPiece, (position + tokens - 1) / kAttentionPiece};
}

/// Into how many parts the query heads of a kv head are cut, so that few tokens still give every worker something;
/// every part reads the pages again, pieces do not.
int head_parts(const AttentionArgs& args, int workers, bool split) {
  int64_t items = 0;
  int needed = 1;  // more heads than one call holds rows for are cut in any case
  int group = 1;
  for (const AttentionRun& run : args.runs) {
    if (run.count == 0) continue;
    group = args.q_heads / run.kv.layout.heads;
    const int rows = most_rows(run.kv.layout.value_width), tokens = std::max(1, rows / group);
    needed = std::max(needed, (group + rows - 1) / rows);
    const int64_t newest = run.position + run.count,
                  seen = args.window > 0 ? std::min<int64_t>(newest, args.window) : newest;
    items += int64_t{run.kv.layout.heads} * ((run.count + tokens - 1) / tokens) *
             (split ? std::max<int64_t>(1, seen / kAttentionPiece) : 1);
  }
  if (items < workers) needed = std::max(needed, static_cast<int>((workers + items - 1) / std::max<int64_t>(items, 1)));
  return std::min(group, needed);
}

/// In tokens read: fetching a page costs about as much as four rows' work on it.
int64_t tile_cost(int64_t tokens_seen, int rows) { return (tokens_seen + kAttentionBlock) * (rows + 4); }

/// Query rows that walk the pages of one kv head together.
struct Tile {
  const AttentionRun& run;
  int kv_head, q_head, heads;
  int first, tokens;  ///< of the run
  int64_t window;

  int rows() const { return tokens * heads; }
  int64_t position() const { return run.position + first; }
  Pieces pieces() const { return pieces_seen(position(), tokens, window); }
  int64_t cost() const { return cost(0, position() + tokens); }
  int64_t cost(int64_t piece) const { return cost(piece * kAttentionPiece, (piece + 1) * kAttentionPiece); }

 private:
  int64_t cost(int64_t from, int64_t to) const {
    const int64_t newest = position() + tokens, oldest = window > 0 ? std::max<int64_t>(0, position() - window) : 0;
    return tile_cost(std::min(to, newest) - std::max(from, oldest), rows());
  }
};

/// Last tiles first: they see most, and large items dealt first leave small ones to even out.
template <typename Visit>
void for_each_tile(const AttentionArgs& args, int parts, Visit visit) {
  for (const AttentionRun& run : args.runs) {
    if (run.count == 0) continue;
    const int group = args.q_heads / run.kv.layout.heads, part_heads = (group + parts - 1) / parts;
    const int tile_tokens = std::max(1, most_rows(run.kv.layout.value_width) / part_heads);
    const int last_tile = (run.count - 1) / tile_tokens * tile_tokens;
    for (int head = 0; head < run.kv.layout.heads; ++head)
      for (int begin = 0; begin < group; begin += part_heads)
        for (int first = last_tile; first >= 0; first -= tile_tokens)
          visit(Tile{run, head, head * group + begin, std::min(part_heads, group - begin), first,
                     std::min(tile_tokens, run.count - first), args.window});
  }
}

AttentionTile kernel_tile(const AttentionArgs& args, const Tile& tile) {
  const KvLayout& layout = tile.run.kv.layout;
  const int64_t token = tile.run.first + tile.first, head = tile.kv_head;
  const int64_t q_stride = int64_t{args.q_heads} * layout.key_width,
                out_stride = int64_t{args.q_heads} * layout.value_width;
  return {.pages = tile.run.kv.pages.data(),
          .keys_offset = head * layout.head_bytes(),
          .values_offset = head * layout.head_bytes() + layout.key_bytes(),
          .key_width = layout.key_width,
          .value_width = layout.value_width,
          .q = args.q + token * q_stride + int64_t{tile.q_head} * layout.key_width,
          .q_stride = q_stride,
          .out = args.out + token * out_stride + int64_t{tile.q_head} * layout.value_width,
          .out_stride = out_stride,
          .tokens = tile.tokens,
          .heads = tile.heads,
          .position = tile.position(),
          .scale = args.scale,
          .window = args.window,
          .sinks = args.sinks ? args.sinks + tile.q_head : nullptr};
}

/// Would whole tiles keep some workers waiting, for more than a sixteenth of the time?
bool uneven(const AttentionArgs& args, int parts, const Worker& worker) {
  Deal deal(worker);
  for_each_tile(args, parts, [&](const Tile& tile) { deal.mine(tile.cost()); });
  return deal.most() * worker.count() > deal.total() + deal.total() / 16;
}

/// Steps of more query rows than that are many whole tiles.
constexpr int64_t kMostSplitRows = 512;

}  // namespace

void store_kv(const Worker& worker, const KernelTable& kernels, std::span<const AttentionRun> runs, const float* k,
              const float* v, FunctionRef<void(int64_t, int)> prepare) {
  Deal deal(worker);
  for (const AttentionRun& run : runs) store_run(deal, kernels, run, k, v, prepare);
}

AttentionForm attention_form(const KernelTable& kernels, KvType type) {
  return type == KvType::bf16 ? kernels.attention_form : AttentionForm::f32;
}

AttentionSplit::AttentionSplit(Workspace& workspace, int workers, std::span<const AttentionRun> runs, int q_heads,
                               int value_width) {
  int64_t rows = 0, split_rows = 0, results = 0;
  for (const AttentionRun& run : runs) {
    const int64_t run_rows = int64_t{run.count} * q_heads, pieces = pieces_seen(run.position, run.count, 0).count();
    rows += run_rows;
    if (pieces == 1) continue;
    split_rows += run_rows;
    results += run_rows * pieces;
  }
  if (workers == 1 || rows > kMostSplitRows || split_rows == 0) return;
  results_ = workspace.take<float>(results * result_stride(value_width));
  done_ = workspace.take<Count>(split_rows);
  for (Count& count : done_) std::construct_at(&count);
}

void attention(const Worker& worker, const KernelTable& kernels, const AttentionArgs& args) {
  for (const AttentionRun& run : args.runs) {
    QUERN_DCHECK(args.q_heads % run.kv.layout.heads == 0, "query heads are a multiple of kv heads");
    QUERN_CHECK(run.kv.layout.value_width <= kAttentionOutputs, "a row of values fits a tile");
  }
  const bool possible = args.split && !args.split->done_.empty();
  const int parts = head_parts(args, worker.count(), possible);
  const bool split = possible && uneven(args, parts, worker);
  Deal deal(worker);
  int64_t results = 0, tiles = 0;  // split so far
  for_each_tile(args, parts, [&](const Tile& tile) {
    const KvLayout& layout = tile.run.kv.layout;
    const bool paired =
        attention_form(kernels, layout.type) == AttentionForm::bf16 && layout.key_width <= kPairedKeyWidth;
    const auto attend =
        paired ? kernels.attention->attend_bf16 : kernels.attention->attend[static_cast<int>(layout.type)];
    AttentionTile part = kernel_tile(args, tile);
    const Pieces pieces = tile.pieces();
    if (!split || pieces.count() == 1) {
      if (deal.mine(tile.cost())) attend(part);
      return;
    }
    part.result_stride = result_stride(layout.value_width);
    part.results = args.split->results_.data() + results;
    std::atomic<int>& done = args.split->done_[tiles++].pieces;
    results += pieces.count() * tile.rows() * part.result_stride;
    QUERN_DCHECK(results <= std::ssize(args.split->results_), "the step's memory is for such layers");
    for (part.piece = pieces.first; part.piece <= pieces.last; ++part.piece) {
      if (!deal.mine(tile.cost(part.piece))) continue;
      attend(part);
      if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < pieces.count()) continue;
      done.store(0, std::memory_order_relaxed);
      kernels.attention->merge(part);
    }
  });
}

}  // namespace quern
