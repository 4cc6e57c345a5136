// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>

#include "quern/base/json.h"
#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/model_path.h"
#include "quern/cli/output.h"
#include "quern/cli/progress.h"
#include "quern/cli/terminal.h"

namespace quern {
namespace {

constexpr Example kExamples[] = {
    {.command = "quern list", .says = "Show what is there:"},
    {.command = "QUERN_MODELS=/srv/models quern list --json", .says = "Another folder, for a program:"},
};

int print_json(std::span<const ListedModel> models) {
  Json::Array list;
  for (const ListedModel& model : models)
    list.push_back(Json::Object{
        {"name", model.name}, {"path", model.path.string()}, {"bytes", model.bytes}, {"format", model.format}});
  Json json;
  json.set("models", std::move(list));
  Output out;
  out.line(json.dump());
  return out.finish();
}

int run(const Arguments& arguments) {
  const auto folders = model_folders();
  const std::vector<ListedModel> models = list_models(folders);
  if (arguments.has("--json")) return print_json(models);
  int width = 4;
  for (const ListedModel& model : models) width = std::max(width, display_width(model.name));
  Output out;
  for (const ListedModel& model : models)
    out.line(fmt::format("{}{:{}}  {:>9}  {}", one_line(model.name), "", width - display_width(model.name),
                         bytes_text(static_cast<double>(model.bytes)), one_line(model.path.string())));
  const int code = out.finish();
  if (models.empty() && !arguments.has("--quiet"))
    note("no models in the local folders (quern list --help tells which those are)");
  return code;
}

}  // namespace

extern const Command command_list;
const Command command_list = {
    .name = "list",
    .summary = "Show the models in the local folders.",
    .description =
        "Looks through $QUERN_MODELS, else ${XDG_DATA_HOME:-~/.local/share}/quern/models, and "
        "${XDG_CACHE_HOME:-~/.cache}/quern/models, "
        "two levels deep, for .gguf files and folders with a config.json. The names shown can be given wherever a "
        "command takes a MODEL.",
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
