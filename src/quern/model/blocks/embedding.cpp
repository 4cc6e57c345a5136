// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/embedding.h"

#include "quern/kernels/vector.h"

namespace quern {

namespace {

constexpr TensorName kEmbedding = {"token_embd.weight", "model.embed_tokens.weight"};
constexpr TensorName kNorm = {"output_norm.weight", "model.norm.weight"};
constexpr TensorName kHead = {"output.weight", "lm_head.weight"};

/// GGUF has no flag: a file without an output matrix is tied. config.json has one, and where it is true a matrix that
/// lies there all the same is the embedding again.
Result<Presence> head_presence(const ModelSource& source) {
  const Key key{"", "tie_word_embeddings"};
  if (!source.has(key)) return Presence::optional;
  QUERN_TRY(const bool tied, source.boolean(key, {}));
  return tied ? Presence::absent : Presence::required;
}

}  // namespace

Result<Embedding> Embedding::load(Loader& loader, int64_t n_embd, int64_t n_vocab) {
  Embedding embedding;
  QUERN_TRY(embedding.rows_, loader.view(kEmbedding, 0, {n_embd, n_vocab}));
  return embedding;
}

void Embedding::run(const Worker& worker, const Step& step) const {
  worker.phase(Phase::embed);
  const auto [begin, end] = worker.share(step.tokens);
  for (int64_t t = begin; t < end; ++t) rows_.decode_row(step.batch.tokens[t], step.x + t * step.n_embd);
  worker.barrier();
}

Result<OutputHead> OutputHead::load(Loader& loader, const Embedding& embedding, float eps, float norm_offset) {
  const int64_t n_embd = embedding.rows().shape.columns(), n_vocab = embedding.rows().shape.rows();
  OutputHead head;
  head.eps_ = eps;
  QUERN_TRY(head.norm_, loader.norm(kNorm, 0, n_embd, norm_offset));
  QUERN_TRY(const Presence presence, head_presence(loader.source()));
  QUERN_TRY(auto weight, loader.matrix_if(kHead, 0, n_vocab, n_embd, presence));
  if (!weight) {
    QUERN_TRY(weight, loader.pack(embedding.rows()));
  }
  head.weight_ = *std::move(weight);
  return head;
}

void OutputHead::run(const Worker& worker, Step& step, std::span<float> logits) const {
  const std::span<const int> outputs = step.batch.outputs;
  const int64_t n = static_cast<int64_t>(outputs.size());
  if (n == 0) return;
  worker.phase(Phase::norm);
  if (!step.batch.hidden.empty()) {
    const auto [begin, end] = worker.share(n);
    for (int64_t i = begin; i < end; ++i)
      step.kernels.vector->rms_norm(step.x + outputs[i] * step.n_embd, norm_.data(), eps_,
                                    step.batch.hidden.data() + i * step.n_embd, step.n_embd);
    worker.barrier();
    return;
  }
  step.activations.make(worker, n, step.n_embd, weight_.inputs(), step.normed, [&](int64_t i, float* row) {
    step.kernels.vector->rms_norm(step.x + outputs[i] * step.n_embd, norm_.data(), eps_, row, step.n_embd);
  });
  worker.phase(Phase::head);
  matmul(worker, MatmulJob{&weight_, nullptr, logits.data(), weight_.rows()}, step.activations);
}

}  // namespace quern
