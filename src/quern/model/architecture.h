// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "quern/base/function_ref.h"
#include "quern/base/result.h"
#include "quern/kernels/kernel_table.h"
#include "quern/model/model.h"
#include "quern/model/source.h"
#include "quern/parallel/pool.h"

namespace quern {

/// What loading does with the weights.
enum class Weights : uint8_t {
  packed,   ///< packs them for this CPU
  outline,  ///< looks every tensor up and checks its shape, packs none: `info` (with the bytes that packing would take)
            ///< and `state` hold, `forward` must not be called
};

struct LoadContext {
  const KernelTable& kernels;
  Pool& pool;
  /// Called with bytes done and bytes in all; false ends loading with `cancelled`.
  FunctionRef<bool(int64_t, int64_t)> progress;
  Weights weights = Weights::packed;
};

/// What makes a tiny random model of a family, for the tests that drive every registered architecture (testing.h).
struct TinyModel {
  /// Hyper-parameters as a JSON object, keys as in GGUF without the prefix. Tensors follow from what `load` asks for.
  std::string_view metadata;
  /// Tensors whose values do not follow from their names (norms near 1, all else near 0): those whose name contains
  /// `name` lie in low .. high.
  struct Values {
    std::string_view name;
    float low, high;
  };
  std::span<const Values> values;
};

/// A family of models: one per file `arch/<name>.arch.cpp`, constant `arch_<name>`.
struct Architecture {
  std::string_view name;                             ///< general.architecture in GGUF
  std::span<const std::string_view> hf_model_types;  ///< model_type in config.json
  Result<std::unique_ptr<Model>> (*load)(const ModelSource& source, const LoadContext& context);
  TinyModel tiny;
};

extern const Architecture* const arch_table[];
extern const int arch_table_size;

/// The architecture a source names; an unknown one is an error that lists the known.
Result<const Architecture*> find_architecture(const ModelSource& source);

/// The source must outlive the model: rows of the embedding are read from its file.
Result<std::unique_ptr<Model>> load_model(const ModelSource& source, const LoadContext& context);
/// The same as an outline (Weights), for kernels of this level.
Result<std::unique_ptr<Model>> load_outline(const ModelSource& source, Isa isa);

}  // namespace quern
