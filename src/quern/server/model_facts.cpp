// SPDX-License-Identifier: Apache-2.0
#include "quern/server/model_facts.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "quern/engine/memory.h"
#include "quern/model/architecture.h"
#include "quern/model/source.h"

namespace quern {
namespace {

std::string main_type(const ModelSource& source) {
  std::map<std::string_view, size_t> bytes;
  if (source.gguf()) {
    for (const gguf::Tensor& tensor : source.gguf()->tensors())
      if (tensor.view.type) bytes[tensor.view.type->name] += tensor.view.data.size();
  } else {
    for (const safetensors::Tensor& tensor : source.folder()->tensors()) bytes[tensor.dtype] += tensor.view.data.size();
  }
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& type) { return type.second; });
  return most == bytes.end() ? std::string() : std::string(most->first);
}

ModelFacts common_facts(const ModelSource& source, const ModelInfo& info) {
  return {.architecture = info.architecture,
          .main_type = main_type(source),
          .parameters = info.parameters,
          .n_layer = info.n_layer,
          .n_embd = info.n_embd,
          .n_vocab = info.n_vocab,
          .trained_context_tokens = info.context_length};
}

}  // namespace

ModelFacts facts_of(const LoadedModel& model) {
  ModelFacts facts = common_facts(model.source(), model.model().info());
  facts.context_tokens = model.context().tokens;
  if (const auto found = model.chat_template(); found && *found) facts.chat_template = (*found)->source();
  return facts;
}

Result<ModelFacts> read_model_facts(const std::filesystem::path& path, const LoadOptions& options, int64_t room_bytes) {
  QUERN_TRY(const auto source, ModelSource::open(path));
  Pool pool(1);
  const auto go_on = [](int64_t, int64_t) { return true; };
  const LoadContext outline{kernel_table(options.isa.value_or(best_isa())), pool, go_on, Weights::outline};
  QUERN_TRY(const auto model, load_model(*source, outline));
  ModelFacts facts = common_facts(*source, model->info());
  const int64_t for_state = room_bytes - model->info().weight_bytes;
  if (const auto plan = plan_context(*model, options.kv, options.context, for_state, options.sequences))
    facts.context_tokens = plan->tokens;
  if (auto text = load_template_source(path); text && *text) facts.chat_template = std::move((*text)->text);
  return facts;
}

}  // namespace quern
