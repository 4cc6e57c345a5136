// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "quern/base/result.h"
#include "quern/engine/loaded_model.h"

namespace quern {

/// What lists of models tell of one, whether it is in memory or not.
struct ModelFacts {
  std::string architecture;  ///< "llama"
  std::string main_type;     ///< the weight type of most bytes: "Q4_K"
  int64_t parameters = 0;
  int64_t n_layer = 0, n_embd = 0, n_vocab = 0;
  int64_t trained_context_tokens = 0;
  int64_t context_tokens = 0;  ///< of one request; 0: there is no room for the shortest one
  /// Its text; empty: none. Of a model that runs also one of ours that its tokens tell.
  std::string chat_template;
};

/// Of a model that runs.
ModelFacts facts_of(const LoadedModel& model);

/// Of a model's files; reads no weights, so it takes some hundredths of a second for any size. The context is what
/// there would be with so many bytes for weights and state. Any thread.
Result<ModelFacts> read_model_facts(const std::filesystem::path& path, const LoadOptions& options, int64_t room_bytes);

}  // namespace quern
