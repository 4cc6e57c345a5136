// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/loaded_model.h"
#include "quern/model/model.h"
#include "quern/server/file_state.h"

namespace quern {

/// What lists of models tell of one, the same whether it is in memory or not.
struct ModelFacts {
  ModelInfo info;
  std::vector<StateItem> state;
  std::string main_type;      ///< the weight type of most bytes: "Q4_K"
  std::string chat_template;  ///< its text, or of one of ours that its tokens tell; empty: none, or a broken one
  bool fills_holes = false;
  int64_t file_bytes = 0;        ///< of the files of weights
  FileTime written;              ///< when the last of those was
  std::vector<FileState> files;  ///< that all this comes from, as they were
};

/// Of a model that runs. `files`: as they were before it was loaded (model_file_states).
ModelFacts facts_of(const LoadedModel& model, std::vector<FileState> files);

/// Of a model's files, which were `files` a moment ago. Reads no weights, whatever their size: takes some hundredths of
/// a second for a GGUF file, and a few tenths for a folder, whose tokens are JSON. Any thread.
Result<ModelFacts> read_model_facts(const std::filesystem::path& path, Isa isa, std::vector<FileState> files);

/// Where files cannot be read: no more than how many bytes there are, and since when.
ModelFacts unread_facts(std::vector<FileState> files);

/// Whether the files are as they were.
bool still_hold(const ModelFacts& facts, const std::filesystem::path& path);

/// Tokens of one request that there would be with so many bytes for weights and state: those that the options ask for,
/// or as many as there is room for; 0: there is none for so many, or for the fewest.
int64_t possible_context(const ModelFacts& facts, const LoadOptions& options, int64_t room_bytes);

}  // namespace quern
