// SPDX-License-Identifier: Apache-2.0
// Bytes as the metadata of a GGUF file whose every tensor exists: whatever the hyper-parameters say, loading an outline
// ends in an error or in a model, without a crash and without memory for what is not there.
#include <cstddef>
#include <cstdint>
#include <span>

#include "quern/kernels/isa.h"
#include "quern/model/architecture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  auto file = gguf::File::parse(std::as_bytes(std::span(data, size)));
  if (!file) return 0;
  auto source = ModelSource::imagined(*std::move(file));
  if (!source) return 0;
  static Pool pool(1);
  const auto progress = [](int64_t, int64_t) { return true; };
  const auto model = load_model(**source, {kernel_table(best_isa()), pool, progress, Weights::outline});
  if (model) {
    // That a layer's rope fits its heads, AttentionBlock::load checks by itself.
    int layers = 0;
    for (int last = -1; const StateItem& item : (*model)->state()) {
      const bool fixed = item.kind == StateKind::fixed;
      if (fixed ? item.floats < 1 : item.heads < 1 || item.key_width < 1 || item.value_width < 1) __builtin_trap();
      if (item.window < 0 || (item.window > 0) != (item.kind == StateKind::window)) __builtin_trap();
      if (item.layer != last) ++layers;
      if (item.layer != layers - 1) __builtin_trap();
      last = item.layer;
    }
    if (layers != (*model)->info().n_layer) __builtin_trap();
  }
  return 0;
}
