// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/model_loading.h"

#include <cstdlib>

#include "quern/cli/interrupt.h"
#include "quern/cli/model_path.h"
#include "quern/cli/progress.h"

namespace quern {

Result<std::optional<Isa>> wanted_isa(const Arguments& arguments) {
  std::optional<std::string> name = arguments.text("--isa");
  const char* forced = std::getenv("QUERN_FORCE_ISA");
  const bool from_environment = !name && forced && *forced;
  if (from_environment) name = forced;
  if (!name) return std::optional<Isa>();
  auto isa = find_isa(*name);
  if (!isa) return std::move(isa).error().in(from_environment ? "QUERN_FORCE_ISA" : "--isa");
  return std::optional(*isa);
}

Result<LoadOptions> load_options(const Arguments& arguments) {
  LoadOptions out;
  QUERN_TRY(out.isa, wanted_isa(arguments));
  out.threads = static_cast<int>(arguments.integer("--threads").value_or(0));
  if (const auto kv = arguments.text("--kv")) out.kv = find_kv_type(*kv).value_or(out.kv);
  out.context = arguments.integer("--ctx").value_or(0);
  out.memory_budget = arguments.size("--memory-budget").value_or(0);
  return out;
}

Result<std::unique_ptr<LoadedModel>> load_with_progress(const std::filesystem::path& path, const LoadOptions& options,
                                                        bool quiet) {
  Progress progress("loading", Unit::bytes, quiet);
  auto model = LoadedModel::load(path, options, [&](int64_t done, int64_t total) {
    progress.update(done, total);
    return !interrupted();
  });
  if (!model && model.error().code != ErrorCode::cancelled) {
    // Errors of a file name it, once.
    const std::string name = path.string();
    if (model.error().message.find(name) == std::string::npos) return std::move(model).error().in(name);
  }
  return model;
}

Result<std::unique_ptr<LoadedModel>> load_named_model(const Arguments& arguments, int64_t context) {
  QUERN_TRY(const auto path, find_model(*arguments.positional(0)));
  QUERN_TRY(LoadOptions options, load_options(arguments));
  if (options.context == 0) options.context = context;
  return load_with_progress(path, options, arguments.has("--quiet"));
}

std::optional<std::string> context_note(const LoadedModel& model) {
  if (!model.context().limited) return std::nullopt;
  return fmt::format("context: {} of {} tokens fit into memory", model.context().tokens,
                     model.model().info().context_length);
}

}  // namespace quern
