// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/experts.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "quern/kernels/vector.h"
#include "quern/parallel/share.h"

namespace quern {
namespace {

// As many tokens are chosen for in the time of the barriers that this saves.
constexpr int64_t kFewTokens = 4;
// Sharing of work: a panel that is read for n slots costs as much as n + this many in the caches.
constexpr int64_t kPanelReadSlots = 3;
// Panels that kernels take at a time.
constexpr int64_t kGrain = 2;
// Pieces of the panels of all experts, at least. Costs are estimates: what is left at the end should be small.
constexpr int64_t kCuts = 32;
// Rows that are rounded with one scale, at most.
constexpr int64_t kPiecePanels = input_columns(InputForm::per_128) / kPanelRows;
// Panels of an expert that are multiplied before their results go on: these stay in the second-level cache.
constexpr int64_t kRunPanels = 16;
constexpr int64_t kRunBytes = 256 << 10;

int64_t panels_of(const Matrix& matrix) { return (matrix.rows() + kPanelRows - 1) / kPanelRows; }

void score(RouterSpec::Scoring scoring, const float* logits, std::span<float> scores) {
  std::copy_n(logits, scores.size(), scores.begin());
  if (scoring == RouterSpec::Scoring::sigmoid) {
    for (float& x : scores) x = 1 / (1 + std::exp(-x));
    return;
  }
  const float most = *std::ranges::max_element(scores);
  double sum = 0;
  for (float& x : scores) sum += x = std::exp(x - most);
  for (float& x : scores) x = static_cast<float>(x / sum);
}

/// The indices of the largest scores, the best first. Only a strictly larger one goes ahead of another: of equals the
/// first stays in front, and what is not a number stays behind.
void take_best(std::span<const float> scores, std::span<int> best) {
  const int n_used = static_cast<int>(best.size());
  int count = 0;
  for (int e = 0; e < static_cast<int>(scores.size()); ++e) {
    if (count == n_used && !(scores[e] > scores[best[count - 1]])) continue;
    int at = count < n_used ? count++ : count - 1;
    for (; at > 0 && scores[e] > scores[best[at - 1]]; --at) best[at] = best[at - 1];
    best[at] = e;
  }
}

void weigh(const RouterSpec& spec, std::span<const float> scores, std::span<const int> best, float* weights) {
  float sum = 0;
  for (int e : best) sum += scores[e];
  // Sigmoids may all be 0.
  const float scale = spec.normalised ? spec.scale / std::max(sum, 1e-20f) : spec.scale;
  for (size_t i = 0; i < best.size(); ++i) weights[i] = scores[best[i]] * scale;
}

int64_t experts_in_use(std::span<const int> begins) {
  int64_t n = 0;
  for (size_t e = 1; e < begins.size(); ++e) n += begins[e] > begins[e - 1];
  return n;
}

/// Where reading goes on after expert `e`: with the same panels of the next one that has slots.
PanelsAhead next_expert(std::span<const Matrix> of, std::span<const int> begins, int e, int64_t panel) {
  for (++e; e + 1 < static_cast<int>(begins.size()); ++e)
    if (begins[e + 1] > begins[e]) return {&of[e], panel};
  return {};
}

/// Passes the panels of all groups that have slots to fn(group, first, last), as `work_through` does: they stand one
/// after the other and are cut where the cost is equal, in whole units.
template <typename Fn>
void work_through_panels(const Worker& worker, std::span<const int> begins, int64_t panels, int64_t unit_panels,
                         Fn fn) {
  const int n_groups = static_cast<int>(begins.size()) - 1;
  const int64_t units = (panels + unit_panels - 1) / unit_panels;
  const auto cost = [&](int g) {
    const int64_t slots = begins[g + 1] - begins[g];
    return slots > 0 ? slots + kPanelReadSlots : 0;
  };
  int64_t total = 0;
  for (int g = 0; g < n_groups; ++g) total += cost(g) * units;
  const int64_t grain = 1 + total / Share::kMostUnits;
  worker.work_through(total, grain, std::max(grain, total / kCuts), [&](int64_t begin, int64_t end) {
    int64_t at = 0;
    for (int g = 0; g < n_groups && at < end; ++g) {
      const int64_t each = cost(g);
      if (each == 0) continue;
      // Units belong to the piece in which they begin.
      const auto unit = [&](int64_t edge) { return std::clamp<int64_t>((edge - at + each - 1) / each, 0, units); };
      const int64_t first = unit(begin) * unit_panels, last = std::min(unit(end) * unit_panels, panels);
      if (first < last) fn(g, first, last);
      at += each * units;
    }
  });
}

}  // namespace

Routing::Memory Routing::take(Workspace& workspace, int64_t tokens, int max_experts, int max_used) {
  const int64_t n = tokens * max_used;
  return {workspace.take<int>(n), workspace.take<int>(max_experts + 1), workspace.take<int>(n),
          workspace.take<float>(n), workspace.take<float>(n)};
}

Routing::Routing(Workspace& workspace, int workers, int64_t max_tokens, int max_experts, int max_used)
    : shared_(take(workspace, max_tokens, max_experts, max_used)),
      own_(workspace.take<Memory>(workers)),
      scores_(workspace.take<std::span<float>>(workers)),
      slots_(workspace.take<Slots>(workers)) {
  for (int w = 0; w < workers; ++w) {
    std::construct_at(&own_[w], take(workspace, std::min(max_tokens, kFewTokens), max_experts, max_used));
    std::construct_at(&scores_[w], workspace.take<float>(max_experts));
    std::construct_at(&slots_[w]);
  }
}

void Routing::choose(const RouterSpec& spec, const float* logits, int64_t begin, int64_t end, std::span<float> scores,
                     const Memory& to) {
  for (int64_t t = begin; t < end; ++t) {
    const std::span<int> best = to.chosen.subspan(t * spec.n_used, spec.n_used);
    score(spec.scoring, logits + t * spec.n_expert, scores);
    take_best(scores, best);
    weigh(spec, scores, best, to.chosen_weights.data() + t * spec.n_used);
  }
}

/// A counting sort.
void Routing::sort(const RouterSpec& spec, int64_t tokens, const Memory& memory) {
  const std::span<int> begins = memory.begins.first(spec.n_expert + 1);
  const std::span<const int> chosen = memory.chosen.first(tokens * spec.n_used);
  std::ranges::fill(begins, 0);
  for (int e : chosen) ++begins[e + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  // Each slot that is given away moves the beginning of its expert on, in the end to that of the next.
  for (size_t i = 0; i < chosen.size(); ++i) {
    const int slot = begins[chosen[i]]++;
    memory.tokens[slot] = static_cast<int>(i) / spec.n_used;
    memory.weights[slot] = memory.chosen_weights[i];
  }
  std::shift_right(begins.begin(), begins.end(), 1);
  begins[0] = 0;
}

void Routing::route(const Worker& worker, const RouterSpec& spec, const float* logits, int64_t tokens) {
  const bool few = tokens <= kFewTokens;
  const Memory& memory = few ? own_[worker.index()] : shared_;
  const auto [begin, end] = few ? Worker::Range{0, tokens} : worker.share(tokens);
  choose(spec, logits, begin, end, scores_[worker.index()].first(spec.n_expert), memory);
  if (!few) worker.barrier();
  if (few || worker.index() == 0) sort(spec, tokens, memory);
  if (!few) worker.barrier();
  const int64_t n = tokens * spec.n_used;
  slots_[worker.index()] = {tokens, memory.begins.first(spec.n_expert + 1), memory.tokens.first(n),
                            memory.weights.first(n)};
}

void experts_up(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Slots& slots,
                const Activations& x, float* gate, float* up, InputForms forms, Activations& inner) {
  const int64_t n_ff = experts.gate[0].rows(), panels = panels_of(experts.gate[0]);
  const std::span<const int> begins = slots.begins;
  const auto multiply = [&](int e, int64_t first, int64_t last) {
    for (int64_t run = first; run < last; run += kRunPanels) {
      const int64_t end = std::min(run + kRunPanels, last);
      const int64_t row = run * kPanelRows, rows = std::min(end * kPanelRows, n_ff) - row;
      const PanelsAhead next =
          end < panels ? PanelsAhead{&experts.gate[e], end} : next_expert(experts.gate, begins, e, 0);
      float* gates = gate + begins[e] * n_ff + row;
      float* ups = up + begins[e] * n_ff + row;
      matmul_piece(worker, {&experts.gate[e], nullptr, gates, n_ff}, run, end, x, e, {&experts.up[e], run});
      matmul_piece(worker, {&experts.up[e], nullptr, ups, n_ff}, run, end, x, e, next);
      for (int64_t s = begins[e]; s < begins[e + 1]; ++s, gates += n_ff, ups += n_ff)
        kernels.vector->swiglu(gates, ups, gates, rows);
    }
  };
  // In shares of whole pieces that are rounded together, a worker rounds its own rows; where there are too few of those
  // to be fair, all meet before.
  const int64_t pieces = experts_in_use(begins) * ((panels + kPiecePanels - 1) / kPiecePanels);
  if (forms.any() && worker.shares_fairly(pieces)) {
    inner.set_group_columns(worker, gate, n_ff, forms, begins, 0, 0, 0);  // who gets no rows multiplies all the same
    work_through_panels(worker, begins, panels, kPiecePanels, [&](int e, int64_t first, int64_t last) {
      multiply(e, first, last);
      inner.set_group_columns(worker, gate, n_ff, forms, begins, e, first * kPanelRows,
                              std::min(last * kPanelRows, n_ff));
    });
  } else {
    work_through_panels(worker, begins, panels, kGrain, multiply);
    if (forms.any()) worker.barrier();
    inner.set_groups(worker, gate, n_ff, forms, {}, begins, nullptr);
  }
}

void experts_down(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Slots& slots,
                  const Activations& x, float* out, float* y) {
  const int64_t n_embd = experts.down[0].rows(), panels = panels_of(experts.down[0]);
  const std::span<const int> begins = slots.begins;
  // Every piece takes all inputs through the cache: of more than a tile of tokens it should be long.
  const bool long_pieces =
      slots.tokens > kMostTileTokens && worker.shares_fairly((panels + kPiecePanels - 1) / kPiecePanels);
  worker.work_through(panels, long_pieces ? kPiecePanels : kGrain, panels, [&](int64_t begin, int64_t end) {
    float* const mine = out + slots.tokens * begin * kPanelRows;  // an expert has at most one slot of each token
    for (int e = 0; e + 1 < static_cast<int>(begins.size()); ++e) {
      const int64_t count = begins[e + 1] - begins[e];
      if (count == 0) continue;
      const int64_t run = std::max<int64_t>(1, kRunBytes / (count * kPanelRows * 4));
      for (int64_t first = begin; first < end; first += run) {
        const int64_t last = std::min(first + run, end);
        const int64_t row = first * kPanelRows, rows = std::min(last * kPanelRows, n_embd) - row;
        PanelsAhead next = {&experts.down[e], last};
        if (last == end) next = next_expert(experts.down, begins, e, begin);
        if (!next.weight && end < panels) next = next_expert(experts.down, begins, -1, end);
        matmul_piece(worker, {&experts.down[e], nullptr, mine, rows}, first, last, x, e, next);
        for (int64_t s = 0; s < count; ++s) {
          const int64_t slot = begins[e] + s;
          kernels.vector->add_scaled(y + slots.token[slot] * n_embd + row, mine + s * rows, slots.weight[slot], rows);
        }
      }
    }
  });
}

}  // namespace quern
