// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <system_error>
#include <utility>

#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/lost_file.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/terminal.h"
#include "quern/cli/version.h"
#include "quern/gguf/file.h"
#include "quern/safetensors/folder.h"
#include "quern/server/model_host.h"
#include "quern/server/sandbox.h"
#include "quern/server/server.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {
    {.name = "MODEL", .help = kModelHelp, .repeatable = true},
};
constexpr std::string_view kSpeculation[] = {"off", "auto"};
constexpr OptionSpec kOptions[] = {
    {.name = "--host",
     .metavar = "H",
     .help = "Address to listen on. Any but a loopback one needs --api-key-file.",
     .type = OptionType::text,
     .default_text = "127.0.0.1"},
    {.name = "--port",
     .metavar = "P",
     .help = "Port; 0 picks a free one.",
     .type = OptionType::integer,
     .min = 0,
     .max = 65535,
     .default_text = "8080"},
    {.name = "--parallel",
     .metavar = "N",
     .help = "Requests of a model that are worked on at the same time; more wait.",
     .type = OptionType::integer,
     .min = 1,
     .max = 1024,
     .default_text = "8"},
    {.name = "--alias",
     .metavar = "NAME",
     .help = "Another name of the first model; with NAME=MODEL of that one.",
     .type = OptionType::text,
     .repeatable = true},
    {.name = "--api-key-file",
     .metavar = "FILE",
     .help = "Answer only who has one of these keys, one per line. What is cached or stored is apart for each.",
     .type = OptionType::path},
    {.name = "--cache-dir",
     .metavar = "DIR",
     .help = "Keep read prompts on disk as well, for the next start.",
     .type = OptionType::path},
    {.name = "--cache-size",
     .metavar = "SIZE",
     .help = "What --cache-dir may take.",
     .type = OptionType::size,
     .default_text = "10G"},
    {.name = "--store-dir",
     .metavar = "DIR",
     .help = "Keep stored responses on disk; otherwise in memory until the end.",
     .type = OptionType::path},
    {.name = "--speculate",
     .metavar = "MODE",
     .help = "auto: draft from what was said before, where that is faster. Never changes an answer.",
     .type = OptionType::choice,
     .choices = kSpeculation,
     .default_text = "auto"},
    {.name = "--allow-host",
     .metavar = "NAME",
     .help = "Answer requests for this host name too: of a proxy, or on a local network.",
     .type = OptionType::text,
     .repeatable = true},
    {.name = "--allow-origin",
     .metavar = "ORIGIN",
     .help = "Let pages of this origin, such as https://chat.example.com, ask.",
     .type = OptionType::text,
     .repeatable = true},
    {.name = "--report-misses",
     .help =
         "Tell at /debug/prefix-misses where a prompt went another way than what was read before: position and token "
         "ids, no text."},
    {.name = "--no-sandbox", .help = "Keep files and connections open to the process that it does not need."},
};
constexpr Example kExamples[] = {
    {.command = "quern serve model.gguf", .says = "For the programs of this machine:"},
    {.command = "quern serve model.gguf --cache-dir ~/.cache/quern/prefixes --ctx 32768",
     .says = "For a coding agent, with a cache that outlives restarts:"},
    {.command = "quern serve small.gguf large.gguf --memory-budget 20G", .says = "Two models, loaded by need:"},
    {.command = "quern serve model.gguf --host 0.0.0.0 --api-key-file keys.txt --allow-host quern.lan:8080",
     .says = "For a local network:"},
};

Error usage(std::string_view option, std::string_view expected, std::string_view found) {
  return make_error(ErrorCode::invalid_argument, "serve: {}: expected {}, found {}", option, expected, found);
}

/// The path of MODEL. Of another folder than a model's nothing could be loaded, and all of it would be open to the
/// server.
Result<std::filesystem::path> find_served_model(std::string_view text) {
  QUERN_TRY(auto path, find_model(text));
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored) && !safetensors::is_model_folder(path))
    return make_error(ErrorCode::not_found,
                      "{}: expected a .gguf file or a model folder with config.json, found a folder without",
                      path.string());
  return path;
}

/// The models to serve, by names that are not the same.
Result<std::vector<ModelEntry>> entries(const Arguments& arguments) {
  std::vector<ModelEntry> out;
  std::vector<std::filesystem::path> places;
  for (const std::string& text : arguments.positionals()) {
    QUERN_TRY(const auto path, find_served_model(text));
    const std::filesystem::path place = model_place(path);
    if (std::ranges::find(places, place) != places.end())
      return make_error(ErrorCode::invalid_argument, "{}: expected each model once, found it twice", text);
    places.push_back(place);
    const auto is_taken = [&](const std::string& name) {
      return std::ranges::find(out, name, &ModelEntry::name) != out.end();
    };
    std::string name = model_name(path);
    if (is_taken(name)) name = path.string();
    if (is_taken(name)) name = place.string();
    out.push_back({std::move(name), path, {}});
  }
  return out;
}

Status add_aliases(const Arguments& arguments, std::vector<ModelEntry>& models) {
  for (const std::string& text : arguments.texts("--alias")) {
    const size_t equals = text.find('=');
    const std::string alias = text.substr(0, equals);
    ModelEntry* model = models.data();
    if (equals != text.npos) {
      const auto found = std::ranges::find(models, text.substr(equals + 1), &ModelEntry::name);
      if (found == models.end()) return usage("--alias", "the name of a served model after =", text);
      model = &*found;
    }
    if (alias.empty()) return usage("--alias", "a name", "none");
    for (const ModelEntry& other : models)
      if (other.name == alias || std::ranges::find(other.aliases, alias) != other.aliases.end())
        return usage("--alias", "a name that no model has", alias);
    model->aliases.push_back(alias);
  }
  return {};
}

Result<HostOptions> host_options(const Arguments& arguments) {
  HostOptions out;
  QUERN_TRY(out.load, load_options(arguments));
  out.engine.parallel = static_cast<int>(arguments.integer("--parallel").value_or(out.engine.parallel));
  out.load.shared_by = out.engine.parallel;
  out.engine.report_misses = arguments.has("--report-misses");
  out.engine.speculate = arguments.text("--speculate").value_or("auto") == "auto";
  if (const auto dir = arguments.text("--cache-dir")) out.engine.cache_dir = *dir;
  out.engine.cache_dir_bytes = arguments.size("--cache-size").value_or(out.engine.cache_dir_bytes);
  return out;
}

/// What the server still has to do with files once it has its port.
SandboxPaths sandbox_paths(const Arguments& arguments, const std::vector<ModelEntry>& models) {
  SandboxPaths out;
  for (const ModelEntry& model : models) {
    const auto folder = safetensors::folder_of(model.path);
    // A file that is named like one of a model's opens nothing beside it where there is no model.
    if (folder && safetensors::is_model_folder(*folder))
      out.read.push_back(*folder);
    else
      std::ranges::move(gguf::part_paths(model.path), std::back_inserter(out.read));
  }
  for (const char* option : {"--cache-dir", "--store-dir"})
    if (const auto dir = arguments.text(option)) out.write.push_back(*dir);
  return out;
}

ServerOptions server_options(const Arguments& arguments, const std::vector<ModelEntry>& models) {
  ServerOptions out;
  out.host = arguments.text("--host").value_or(out.host);
  out.port = static_cast<uint16_t>(arguments.integer("--port").value_or(out.port));
  if (const auto keys = arguments.text("--api-key-file")) out.api_key_file = *keys;
  out.allow_hosts = arguments.texts("--allow-host");
  out.allow_origins = arguments.texts("--allow-origin");
  if (const auto dir = arguments.text("--store-dir")) out.store_dir = *dir;
  if (!arguments.has("--no-sandbox")) out.sandbox = sandbox_paths(arguments, models);
  out.version = kVersion;
  return out;
}

int run(const Arguments& arguments) {
  const bool quiet = arguments.has("--quiet");
  auto models = entries(arguments);
  if (!models) return report(models.error());
  if (Status good = add_aliases(arguments, *models); !good) return report_usage(good.error());
  const auto options = host_options(arguments);
  if (!options) return report(options.error());
  // The port and the keys first: a mistake there should not cost the time of loading weights.
  auto server = Server::open(server_options(arguments, *models), [&](std::string_view line) {
    if (!quiet) note(line);
  });
  if (!server)
    return server.error().code == ErrorCode::invalid_argument ? report_usage(server.error()) : report(server.error());
  EngineHost host(*std::move(models), *options, [&](const std::filesystem::path& path, const LoadOptions& load) {
    return load_with_progress(path, load, quiet);
  });
  if (const Status loaded = host.start(); !loaded) return report(loaded.error());
  const Server::Ending ending = (*server)->run(host, {interrupt_flag(), &lost_file_flag()}, [&] {
    rest_on_lost_file();
    tell(fmt::format("listening on {}", (*server)->url()));
  });
  if (ending.failure && !lost_file_flag()) report(*ending.failure);  // that has been told
  const int code = ending.failure ? kExitFailed : 0;
  if (!ending.at_rest) std::_Exit(code);
  return code;
}

}  // namespace

extern const Command command_serve;
const Command command_serve = {
    .name = "serve",
    .summary = "Answer the APIs that agents and editors speak.",
    .description =
        "Serves OpenAI's Chat Completions, Responses, Completions and Embeddings, Anthropic's Messages and Ollama's "
        "API over HTTP, to as many clients at once as --parallel says; more wait. What was read before is not read "
        "again: long conversations and the beginnings they share are kept in memory, with --cache-dir on disk too. "
        "Of several models the first is loaded at once, the others when they are asked for. "
        "Listens on this machine only unless told otherwise, opens no outbound connection and logs no text. Ctrl-C "
        "and SIGTERM let running answers end, for about ten seconds. Routes, metrics and how to run it behind a proxy: "
        "docs/serve.md.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
