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

struct LoadContext {
  const KernelTable& kernels;
  Pool& pool;
  /// Called with bytes done and bytes in all; false ends loading with `cancelled`.
  FunctionRef<bool(int64_t, int64_t)> progress;
};

/// A family of models: one per file `arch/<name>.arch.cpp`, constant `arch_<name>`.
struct Architecture {
  std::string_view name;                            ///< general.architecture in GGUF
  std::span<const std::string_view> hf_model_types; ///< model_type in config.json
  Result<std::unique_ptr<Model>> (*load)(const ModelSource& source, const LoadContext& context);
};

extern const Architecture* const arch_table[];
extern const int arch_table_size;

/// The architecture a source names; an unknown one is an error that lists the known.
Result<const Architecture*> find_architecture(const ModelSource& source);

Result<std::unique_ptr<Model>> load_model(const ModelSource& source, const LoadContext& context);

}  // namespace quern
