// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/decoder.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <variant>

#include "quern/model/blocks/embedding.h"
#include "quern/model/blocks/step.h"

namespace quern {
namespace {

using Mixer = std::variant<AttentionBlock, DeltaNetBlock>;
using FeedForward = std::variant<FfnBlock, MoeBlock>;

struct Layer {
  Mixer mixer;
  FeedForward ffn;
  int item;  ///< first of the mixer's in Model::state()
};

class Decoder final : public Model {
 public:
  Decoder(DecoderSpec spec, const KernelTable& kernels) : kernels_(kernels), spec_(std::move(spec)) {}

  Status load(const ModelSource& source, const LoadContext& context) {
    Loader loader(source, context);
    const ModelSizes& sizes = spec_.sizes;
    QUERN_TRY(embedding_, Embedding::load(loader, sizes.n_embd, sizes.n_vocab));
    step_sizes_.n_embd = sizes.n_embd;
    for (int i = 0; i < sizes.n_layer; ++i) {
      const int item = static_cast<int>(state_.size());
      QUERN_TRY(Mixer mixer, load_mixer(loader, i));
      QUERN_TRY(FeedForward ffn, load_ffn(loader, i));
      const auto include = [&](const auto& block) { step_sizes_.include(block); };
      std::visit(include, mixer);
      std::visit(include, ffn);
      layers_.push_back({std::move(mixer), std::move(ffn), item});
    }
    QUERN_TRY(head_, OutputHead::load(loader, embedding_, sizes.eps, spec_.norm_offset));
    info_ = {.architecture = source.architecture(),
             .n_layer = sizes.n_layer,
             .n_embd = sizes.n_embd,
             .n_vocab = sizes.n_vocab,
             .context_length = sizes.context_length,
             .parameters = loader.parameters(),
             .active_parameters = loader.active_parameters(),
             .weight_bytes = loader.weight_bytes(),
             .step_bytes = loader.step_bytes(),  // the embedding stays in the file, and a row of it is nothing
             .token_bytes = step_sizes_.token_bytes()};
    count_products();
    return loader.finish();
  }

  const ModelInfo& info() const override { return info_; }
  std::span<const StateItem> state() const override { return state_; }

  void forward(const Batch& batch, Workspace& workspace, Pool& pool, std::span<float> logits) const override {
    Step step(batch, state_, spec_.ropes, step_sizes_, workspace, kernels_, pool.size());
    std::optional<Batch> wanted;
    std::optional<Step> last;
    if (batch.outputs.size() < batch.tokens.size()) {
      wanted = narrowed(batch, workspace);
      last.emplace(*wanted, state_, spec_.ropes, step_sizes_, workspace, kernels_, pool.size());
    }
    pool.run([&](const Worker& worker) {
      worker.phase(Phase::rope);
      step.fill_rope_tables(worker);
      if (last) last->fill_rope_tables(worker);
      embedding_.run(worker, step);
      for (const Layer& layer : std::span(layers_).first(layers_.size() - (last ? 1 : 0))) {
        std::visit([&](const auto& mixer) { mixer.run(worker, step, layer.item); }, layer.mixer);
        std::visit([&](const auto& ffn) { ffn.run(worker, step); }, layer.ffn);
      }
      if (last) run_last(worker, step, *last);
      head_.run(worker, last ? *last : step, logits);
    });
  }

  void replay(std::span<const Replay> runs, Workspace& workspace, Pool& pool) const override {
    const auto n_runs = static_cast<int64_t>(runs.size()), n_items = static_cast<int64_t>(state_.size());
    const std::span<ReplayRun> replays = workspace.take<ReplayRun>(n_items * n_runs);  // [item][run]
    for (int64_t r = 0; r < n_runs; ++r) {
      const Replay& run = runs[r];
      const float* journal = run.journal;
      for (int64_t i = 0; i < n_items; ++i) {
        std::construct_at(&replays[i * n_runs + r], ReplayRun{run.kept, run.count, run.state[i].fixed, journal});
        journal += run.count * state_[i].journal_floats;
      }
    }
    pool.run([&](const Worker& worker) {  // no barriers: layers have nothing to do with each other
      worker.phase(Phase::recurrent);
      for (const Layer& layer : layers_)
        if (const auto* block = std::get_if<DeltaNetBlock>(&layer.mixer))
          block->replay(worker, kernels_, replays.subspan(layer.item * n_runs, n_runs),
                        replays.subspan((layer.item + 1) * n_runs, n_runs));
    });
  }

 private:
  /// The tokens whose logits are wanted, each a run of its own.
  static Batch narrowed(const Batch& batch, Workspace& workspace) {
    const int64_t n = std::ssize(batch.outputs);
    const std::span<int32_t> tokens = workspace.take<int32_t>(n);
    const std::span<Run> runs = workspace.take<Run>(n);
    const std::span<int> outputs = workspace.take<int>(n);
    auto run = batch.runs.begin();
    for (int i = 0; i < n; ++i) {
      const int token = batch.outputs[i];
      while (token >= run->first + run->count) ++run;
      tokens[i] = batch.tokens[token];
      std::construct_at(&runs[i], Run{i, 1, run->position + token - run->first, run->state});
      outputs[i] = i;
    }
    return {tokens, runs, outputs, batch.hidden};
  }

  /// What the last layer leaves in its tokens' state all of them must do; the rest is for those whose logits are
  /// wanted.
  void run_last(const Worker& worker, Step& step, Step& last) const {
    const Layer& layer = layers_.back();
    const auto take_rows = [&] {
      const auto [begin, end] = worker.share(last.tokens);
      for (int64_t i = begin; i < end; ++i)
        std::copy_n(step.x + step.batch.outputs[i] * step.n_embd, step.n_embd, last.x + i * step.n_embd);
      worker.barrier();
    };
    if (const auto* attention = std::get_if<AttentionBlock>(&layer.mixer)) {
      attention->write(worker, step, layer.item);
      take_rows();
      if (last.tokens > 0) attention->read(worker, last, layer.item);
    } else {
      std::visit([&](const auto& mixer) { mixer.run(worker, step, layer.item); }, layer.mixer);
      take_rows();
    }
    if (last.tokens > 0) std::visit([&](const auto& ffn) { ffn.run(worker, last); }, layer.ffn);
  }

  void count_products() {
    const auto products = [](const auto& block) { return block.products(); };
    for (const Layer& layer : layers_)
      info_.token_products += std::visit(products, layer.mixer) + std::visit(products, layer.ffn);
    // As in `run_last`.
    const Layer& layer = layers_.back();
    int64_t end = std::visit(products, layer.ffn);
    if (const auto* attention = std::get_if<AttentionBlock>(&layer.mixer))
      end += attention->products() - attention->write_products();
    info_.token_products -= end;
    info_.output_products = end + info_.n_embd * info_.n_vocab;
  }

  Result<Mixer> load_mixer(Loader& loader, int i) {
    if (const auto delta_net = spec_.delta_nets.find(i); delta_net != spec_.delta_nets.end()) {
      for (const StateItem& item : delta_net->second.state(i)) state_.push_back(item);
      QUERN_TRY(DeltaNetBlock block, DeltaNetBlock::load(loader, i, delta_net->second));
      return Mixer(std::move(block));
    }
    state_.push_back(spec_.attention[i].state(i));
    QUERN_TRY(AttentionBlock block, AttentionBlock::load(loader, i, spec_.attention[i], spec_.ropes));
    return Mixer(std::move(block));
  }

  Result<FeedForward> load_ffn(Loader& loader, int i) {
    if (const MoeSpec* moe = std::get_if<MoeSpec>(&spec_.ffn[i])) {
      QUERN_TRY(MoeBlock block, MoeBlock::load(loader, i, *moe));
      return FeedForward(std::move(block));
    }
    QUERN_TRY(FfnBlock block, FfnBlock::load(loader, i, std::get<FfnSpec>(spec_.ffn[i])));
    return FeedForward(std::move(block));
  }

  const KernelTable& kernels_;
  DecoderSpec spec_;
  ModelInfo info_;
  StepSizes step_sizes_;
  Embedding embedding_;
  std::vector<Layer> layers_;
  OutputHead head_;
  std::vector<StateItem> state_;
};

/// Heads may have another width in every layer: a rope must fit each that it turns.
Status expect_ropes_fit(const DecoderSpec& spec) {
  for (int i = 0; i < spec.sizes.n_layer; ++i) {
    const AttentionSpec& layer = spec.attention[i];
    if (spec.delta_nets.contains(i) || !layer.rope) continue;
    const int64_t rotated = 2 * std::ssize(spec.ropes[*layer.rope].inv_freq);
    if (rotated > layer.key_width)
      return make_error(ErrorCode::corrupt_data,
                        "layer {}: expected at most {} rotated dimensions (a head's width), found {}", i,
                        layer.key_width, rotated);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> load_decoder(DecoderSpec spec, const ModelSource& source, const LoadContext& context) {
  QUERN_TRY_STATUS(expect_ropes_fit(spec));
  auto model = std::make_unique<Decoder>(std::move(spec), context.kernels);
  QUERN_TRY_STATUS(model->load(source, context));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace quern
