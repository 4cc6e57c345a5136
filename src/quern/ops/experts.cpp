// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quern/kernels/vector.h"

namespace quern {
namespace {

// Sharing of work: a panel that is read for n slots costs as much as n + this many in the caches.
constexpr int64_t kPanelReadSlots = 3;
// Panels that kernels take at a time.
constexpr int64_t kGrain = 2;
// Panels of an expert that are multiplied before their results go on: these stay in the second-level cache.
constexpr int64_t kRunPanels = 16;
constexpr int64_t kRunBytes = 256 << 10;

int64_t panels_of(const Matrix& matrix) { return (matrix.rows() + kPanelRows - 1) / kPanelRows; }

void score(RouterSpec::Scoring scoring, std::span<float> logits) {
  if (scoring == RouterSpec::Scoring::sigmoid) {
    for (float& x : logits) x = 1 / (1 + std::exp(-x));
    return;
  }
  const float most = *std::ranges::max_element(logits);
  double sum = 0;
  for (float& x : logits) sum += x = std::exp(x - most);
  for (float& x : logits) x = static_cast<float>(x / sum);
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

/// Calls fn(group, first, last) for this worker's share of the panels of all groups that have slots: they stand one
/// after the other and are cut where the cost is equal, so that a worker reads few long pieces.
template <typename Fn>
void share_panels(const Worker& worker, std::span<const int> begins, int64_t panels, Fn fn) {
  const int n_groups = static_cast<int>(begins.size()) - 1;
  const int64_t units = (panels + kGrain - 1) / kGrain;
  const auto cost = [&](int g) {
    const int64_t slots = begins[g + 1] - begins[g];
    return slots > 0 ? slots + kPanelReadSlots : 0;
  };
  int64_t total = 0;
  for (int g = 0; g < n_groups; ++g) total += cost(g) * units;
  const auto [begin, end] = worker.share(total);
  int64_t at = 0;
  for (int g = 0; g < n_groups; ++g) {
    const int64_t each = cost(g);
    if (each == 0) continue;
    // Panels are theirs in whose share they begin.
    const auto unit = [&](int64_t edge) { return std::clamp<int64_t>((edge - at + each - 1) / each, 0, units); };
    const int64_t first = unit(begin) * kGrain, last = std::min(unit(end) * kGrain, panels);
    if (first < last) fn(g, first, last);
    at += each * units;
  }
}

}  // namespace

Routing::Routing(Workspace& workspace, int64_t max_tokens, int max_experts, int max_used)
    : chosen_(workspace.take<int>(max_tokens * max_used)),
      begins_(workspace.take<int>(max_experts + 1)),
      slot_tokens_(workspace.take<int>(max_tokens * max_used)),
      slots_(workspace.take<int>(max_tokens * max_used)),
      chosen_weights_(workspace.take<float>(max_tokens * max_used)),
      slot_weights_(workspace.take<float>(max_tokens * max_used)) {
  std::iota(slots_.begin(), slots_.end(), 0);
}

void Routing::choose(const Worker& worker, const RouterSpec& spec, float* logits, int64_t tokens) {
  if (worker.index() == 0) {
    tokens_ = tokens;
    n_expert_ = spec.n_expert;
    n_used_ = spec.n_used;
  }
  const auto [begin, end] = worker.share(tokens);
  for (int64_t t = begin; t < end; ++t) {
    const std::span<float> scores(logits + t * spec.n_expert, spec.n_expert);
    const std::span<int> best = chosen_.subspan(t * spec.n_used, spec.n_used);
    score(spec.scoring, scores);
    take_best(scores, best);
    weigh(spec, scores, best, chosen_weights_.data() + t * spec.n_used);
  }
}

void Routing::group() {
  const std::span<int> begins = begins_.first(n_expert_ + 1);
  std::ranges::fill(begins, 0);
  for (int e : chosen()) ++begins[e + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  // Each slot that is given away moves the beginning of its expert on, in the end to that of the next.
  for (size_t i = 0; i < chosen().size(); ++i) {
    const int slot = begins[chosen_[i]]++;
    slot_tokens_[slot] = static_cast<int>(i) / n_used_;
    slot_weights_[slot] = chosen_weights_[i];
  }
  std::shift_right(begins.begin(), begins.end(), 1);
  begins[0] = 0;
}

void experts_up(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Routing& routing,
                const Activations& x, float* gate, float* up) {
  const int64_t n_ff = experts.gate[0].rows();
  const std::span<const int> begins = routing.begins();
  share_panels(worker, begins, panels_of(experts.gate[0]), [&](int e, int64_t first, int64_t last) {
    for (int64_t run = first; run < last; run += kRunPanels) {
      const int64_t end = std::min(run + kRunPanels, last);
      matmul_piece(worker, {&experts.gate[e], nullptr, gate, n_ff}, run, end, x, e);
      matmul_piece(worker, {&experts.up[e], nullptr, up, n_ff}, run, end, x, e);
      const int64_t row = run * kPanelRows, rows = std::min(end * kPanelRows, n_ff) - row;
      for (int64_t s = begins[e]; s < begins[e + 1]; ++s) {
        float* const at = gate + s * n_ff + row;
        kernels.vector->swiglu(at, up + s * n_ff + row, at, rows);
      }
    }
  });
}

void experts_down(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Routing& routing,
                  const Activations& x, float* out, float* y) {
  const int64_t n_embd = experts.down[0].rows();
  const std::span<const int> begins = routing.begins(), slot_tokens = routing.slot_tokens();
  const auto [begin, end] = worker.share(panels_of(experts.down[0]), kGrain);
  float* const mine = out + routing.tokens() * begin * kPanelRows;  // an expert has at most one slot of each token
  for (int e = 0; e + 1 < static_cast<int>(begins.size()); ++e) {
    const int64_t slots = begins[e + 1] - begins[e];
    if (slots == 0) continue;
    const int64_t run = std::max<int64_t>(1, kRunBytes / (slots * kPanelRows * 4));
    for (int64_t first = begin; first < end; first += run) {
      const int64_t last = std::min(first + run, end);
      const int64_t row = first * kPanelRows, rows = std::min(last * kPanelRows, n_embd) - row;
      // Slots and rows are counted from the first of all; ours begin at `mine`.
      matmul_piece(worker, {&experts.down[e], nullptr, mine - begins[e] * rows - row, rows}, first, last, x, e);
      for (int64_t s = 0; s < slots; ++s) {
        const int64_t slot = begins[e] + s;
        kernels.vector->add_scaled(y + slot_tokens[slot] * n_embd + row, mine + s * rows, routing.slot_weights()[slot],
                                   rows);
      }
    }
  }
}

}  // namespace quern
