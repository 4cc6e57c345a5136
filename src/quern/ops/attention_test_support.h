// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the tests of attention share: sequences with pages, a reference in double precision, the variants of kernels.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "quern/ops/attention.h"
#include "quern/ops/test_support.h"

namespace quern {

/// One sequence's queries, keys and values in float, and its pages.
class TestSequence {
 public:
  TestSequence(const KvLayout& page_layout, int query_heads, int64_t tokens, uint32_t seed)
      : layout(page_layout), q_heads(query_heads), length(tokens) {
    q = random_floats(length * q_heads * layout.key_width, seed);
    k = random_floats(length * layout.heads * layout.key_width, seed + 1);
    v = random_floats(length * layout.heads * layout.value_width, seed + 2);
    clear();
  }

  /// New pages full of what reads as NaN in every type that has one.
  void clear() {
    const int64_t count = (length + kKvPageTokens - 1) / kKvPageTokens;
    memory_.assign(count * layout.page_bytes() + 64, std::byte{0xff});
    auto* base = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory_.data()) + 63) / 64 * 64);
    pages.clear();
    for (int64_t i = 0; i < count; ++i) pages.push_back(base + i * layout.page_bytes());
  }

  AttentionRun run(int first, int count, int64_t position) const { return {first, count, position, {layout, pages}}; }

  KvLayout layout;
  int q_heads;
  int64_t length;
  std::vector<float> q, k, v;
  std::vector<std::byte*> pages;

 private:
  std::vector<std::byte> memory_;
};

struct Options {
  int threads = 2, window = 0;
  const float* sinks = nullptr;
  float scale = 0.2f;
  bool split = true;  ///< where a step has memory for it and it helps
};

/// One step of these runs, whose keys and values are stored; q and the result [tokens, heads * width].
inline std::vector<float> attend(Pool& pool, const KernelTable& kernels, std::span<const AttentionRun> runs,
                                 const float* q, int q_heads, const Options& options) {
  const KvLayout& layout = runs[0].kv.layout;
  int tokens = 0;
  for (const AttentionRun& run : runs) tokens += run.count;
  std::vector<float> out(int64_t{tokens} * q_heads * layout.value_width, NAN);
  Workspace workspace;
  const AttentionSplit split =
      options.split ? AttentionSplit(workspace, options.threads, runs, q_heads, layout.value_width) : AttentionSplit();
  pool.run([&](const Worker& worker) {
    attention(worker, kernels,
              {.runs = runs,
               .q = q,
               .out = out.data(),
               .q_heads = q_heads,
               .scale = options.scale,
               .window = options.window,
               .sinks = options.sinks,
               .split = &split});
  });
  return out;
}

/// Tokens position .. position + count - 1 of a sequence all of whose keys and values are stored.
inline std::vector<float> attend(const KernelTable& kernels, const TestSequence& s, int64_t position, int count,
                                 const Options& options) {
  Pool pool(options.threads);
  const AttentionRun run = s.run(0, count, position);
  return attend(pool, kernels, {&run, 1}, &s.q[position * s.q_heads * s.layout.key_width], s.q_heads, options);
}

/// Writes keys and values of tokens position .. position + count - 1.
inline void store_tokens(Pool& pool, const KernelTable& kernels, const TestSequence& s, int64_t position, int count) {
  const AttentionRun run = s.run(0, count, position);
  pool.run([&](const Worker& worker) {
    store_kv(worker, kernels, {&run, 1}, &s.k[position * s.layout.heads * s.layout.key_width],
             &s.v[position * s.layout.heads * s.layout.value_width]);
  });
}

/// Feeds the sequence in chunks of these sizes (the last repeats); returns the outputs of all tokens.
inline std::vector<float> attend_in_chunks(const KernelTable& kernels, TestSequence& s, const std::vector<int>& chunks,
                                           const Options& options) {
  s.clear();
  std::vector<float> out;
  Pool pool(options.threads);
  int64_t position = 0;
  for (size_t i = 0; position < s.length; ++i) {
    const int count = static_cast<int>(std::min<int64_t>(chunks[std::min(i, chunks.size() - 1)], s.length - position));
    store_tokens(pool, kernels, s, position, count);
    const AttentionRun run = s.run(0, count, position);
    const std::vector<float> part =
        attend(pool, kernels, {&run, 1}, &s.q[position * s.q_heads * s.layout.key_width], s.q_heads, options);
    out.insert(out.end(), part.begin(), part.end());
    position += count;
  }
  return out;
}

/// What a page makes of a row: bfloat16 to nearest even, or int8 with max|x| / 127.
inline std::vector<double> as_stored(KvType type, const float* x, int width) {
  std::vector<double> out(x, x + width);
  if (type == KvType::bf16)
    for (double& y : out) {
      const double step = std::ldexp(1.0, std::ilogb(y == 0 ? 1 : y) - 7);
      y = std::nearbyint(y / step) * step;
    }
  if (type == KvType::int8) {
    float top = 0;
    for (int i = 0; i < width; ++i) top = std::max(top, std::abs(x[i]));
    for (double& y : out) y = std::nearbyint(static_cast<float>(y) * (127 / top)) * (top / 127);
  }
  return out;
}

struct Reference {
  std::vector<double> out;
  double score_size, value_size;  ///< largest Σ|q k| · scale, largest |v|
};

inline Reference reference(const TestSequence& s, int64_t token, int q_head, const Options& options,
                           AttentionForm form) {
  const int kw = s.layout.key_width, vw = s.layout.value_width, head = q_head / (s.q_heads / s.layout.heads);
  const auto q =
      as_stored(form == AttentionForm::bf16 ? KvType::bf16 : KvType::f32, &s.q[(token * s.q_heads + q_head) * kw], kw);
  const int64_t oldest = options.window > 0 ? std::max<int64_t>(0, token - options.window + 1) : 0;
  Reference r{std::vector<double>(vw), 0, 0};
  std::vector<double> scores;
  double top = options.sinks ? options.sinks[q_head] : -1e300;
  for (int64_t j = oldest; j <= token; ++j) {
    const auto key = as_stored(s.layout.type, &s.k[(j * s.layout.heads + head) * kw], kw);
    double score = 0, size = 0;
    for (int d = 0; d < kw; ++d) {
      score += q[d] * key[d];
      size += std::abs(q[d] * key[d]);
    }
    scores.push_back(score * options.scale);
    top = std::max(top, scores.back());
    r.score_size = std::max(r.score_size, size * options.scale);
  }
  double mass = options.sinks ? std::exp(options.sinks[q_head] - top) : 0;
  for (double score : scores) mass += std::exp(score - top);
  for (int64_t j = oldest; j <= token; ++j) {
    const auto value = as_stored(s.layout.type, &s.v[(j * s.layout.heads + head) * vw], vw);
    for (int c = 0; c < vw; ++c) {
      r.out[c] += std::exp(scores[j - oldest] - top) / mass * value[c];
      r.value_size = std::max(r.value_size, std::abs(value[c]));
    }
  }
  return r;
}

/// Errors of a float computation, u = 2^-24. A score is a sum of n products, off by about sqrt(n) independent roundings
/// of partial sums of about sqrt(n) products: u Σ|q k|. A weight is off by that, by two
/// roundings of the score (log2 e as a float, and its product with the scale), by the power's 1e-7 = 2u and a few more;
/// the output by the weights' error times the values. Twice that, for the worst of many. With weights rounded to
/// bfloat16, off by 2^-9 of themselves, their mean of the values is off by at most twice that.
inline double tolerance(const Reference& r, AttentionForm form) {
  return r.value_size * (2 * 0x1p-24 * (r.score_size + 8) + (form == AttentionForm::bf16 ? 0x1p-8 : 0));
}

struct Shape {
  int q_heads, kv_heads, key_width, value_width;
};

struct Variant {
  Isa isa;
  KvType type;
  AttentionForm form;
};
inline void PrintTo(const Variant& v, std::ostream* out) {
  *out << isa_name(v.isa) << ", " << kv_type_name(v.type) << ", " << attention_form_name(v.form);
}
/// Every level with every type and, where the type knows more than one, every form.
inline std::vector<Variant> variants() {
  std::vector<Variant> out;
  for (Isa isa : usable_isas())
    for (KvType type : {KvType::f32, KvType::bf16, KvType::int8})
      for (AttentionForm form : attention_forms(isa))
        if (form == AttentionForm::f32 || type == KvType::bf16) out.push_back({isa, type, form});
  return out;
}

inline std::string variant_name(const testing::TestParamInfo<Variant>& test) {
  std::string name = std::string(isa_name(test.param.isa)) + "_" + std::string(kv_type_name(test.param.type));
  if (test.param.form == AttentionForm::bf16) name += "_rounded";
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

/// Runs its tests once per variant.
class OnEveryVariant : public testing::TestWithParam<Variant> {
 protected:
  const KernelTable& kernels() const { return kernel_table(GetParam().isa, GetParam().form); }
  KvLayout layout(const Shape& s) const { return {GetParam().type, s.kv_heads, s.key_width, s.value_width}; }
  /// Heads wider than 256 are not rounded.
  AttentionForm form(const Shape& s) const { return s.key_width > 256 ? AttentionForm::f32 : GetParam().form; }
};

}  // namespace quern
