// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "quern/base/result.h"
#include "quern/cli/arguments.h"
#include "quern/engine/loaded_model.h"

namespace quern {

/// The level that --isa or QUERN_FORCE_ISA asks for; nothing: the best. One that is not here is an error.
Result<std::optional<Isa>> wanted_isa(const Arguments& arguments);

/// The common options as the engine takes them.
Result<LoadOptions> load_options(const Arguments& arguments);

/// Loads the model with progress on a terminal; Ctrl-C ends it as `cancelled`.
Result<std::unique_ptr<LoadedModel>> load_with_progress(const std::filesystem::path& path, const LoadOptions& options,
                                                        bool quiet);

/// MODEL of the line (its first positional), found and loaded. `context` > 0: the length where --ctx says nothing.
Result<std::unique_ptr<LoadedModel>> load_named_model(const Arguments& arguments, int64_t context = 0);

/// "context: 4,096 of 131,072 tokens fit into memory", where that is so.
std::optional<std::string> context_note(const LoadedModel& model);

}  // namespace quern
