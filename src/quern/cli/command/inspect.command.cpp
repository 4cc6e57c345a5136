// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>

#include "quern/base/sha256.h"
#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/file_facts.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/output.h"
#include "quern/cli/progress.h"
#include "quern/cli/terminal.h"
#include "quern/io/mapped_file.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {{.name = "FILE", .help = kModelHelp}};
constexpr OptionSpec kOptions[] = {
    {.name = "--tensors", .help = "List all tensors with type, shape and size."},
    {.name = "--metadata", .help = "List all metadata; of long lists the beginning."},
    {.name = "--sha256", .help = "Hash the files of weights."},
};
constexpr Example kExamples[] = {
    {.command = "quern inspect model.gguf", .says = "What is in this file, and how much memory will it take?"},
    {.command = "quern inspect model.gguf --json --metadata", .says = "Everything, for a program:"},
};

Result<Json> hash_files(std::span<const std::filesystem::path> paths, int64_t total, bool quiet) {
  constexpr size_t kPiece = size_t{4} << 20;
  Progress progress("hashing", Unit::bytes, quiet);
  Json::Array files;
  int64_t done = 0;
  for (const auto& path : paths) {
    QUERN_TRY(const MappedFile file, MappedFile::open(path));
    Sha256 sha;
    for (auto left = file.bytes(); !left.empty(); left = left.subspan(std::min(kPiece, left.size()))) {
      if (interrupted()) return make_error(ErrorCode::cancelled, "interrupted");
      sha.update(left.first(std::min(kPiece, left.size())));
      done += static_cast<int64_t>(std::min(kPiece, left.size()));
      progress.update(done, total);
    }
    files.push_back(Json::Object{
        {"path", path.string()}, {"bytes", static_cast<int64_t>(file.bytes().size())}, {"sha256", sha.finish()}});
  }
  return Json(std::move(files));
}

/// What an object holds, one line per leaf; lists of plain values stay on one line.
void print_facts(Output& out, const Json& facts, int indent) {
  for (const auto& [key, value] : facts.object()) {
    const bool rows = value.is_array() && !value.array().empty() && value.array()[0].is_object();
    if (value.is_object() && !value.object().empty()) {
      out.line(fmt::format("{:{}}{}:", "", indent, one_line(key)));
      print_facts(out, value, indent + 2);
    } else if (rows) {
      out.line(fmt::format("{:{}}{}:", "", indent, one_line(key)));
      for (const Json& row : value.array()) {
        std::string line;
        for (const auto& [name, cell] : row.object()) {
          const bool size = name == "bytes" && cell.is_integer();
          line += fmt::format("{}{} {}", line.empty() ? "" : ", ", name,
                              size               ? bytes_text(cell.number())
                              : cell.is_string() ? one_line(cell.string())
                                                 : cell.dump());
        }
        out.line(fmt::format("{:{}}{}", "", indent + 2, line));
      }
    } else {
      const bool size = value.is_integer() && std::string_view(key).ends_with("bytes");
      out.line(fmt::format("{:{}}{}: {}", "", indent, one_line(key),
                           size                ? bytes_text(value.number())
                           : value.is_string() ? one_line(value.string())
                                               : value.dump()));
    }
  }
}

int run(const Arguments& arguments) {
  const auto path = find_model(*arguments.positional(0));
  if (!path) return report(path.error());
  const auto options = load_options(arguments);
  if (!options) return report(options.error());
  const auto source = ModelSource::open(*path);
  if (!source) return report(source.error());
  Json facts = file_facts(**source, *options);
  if (arguments.has("--sha256")) {
    const auto paths = (*source)->paths();
    auto hashes = hash_files(paths, (*source)->file_bytes(), arguments.has("--quiet"));
    if (!hashes) return report(hashes.error());
    facts.set("files", *std::move(hashes));
  }
  if (arguments.has("--metadata")) facts.set("metadata", metadata_json(**source));
  if (arguments.has("--tensors")) facts.set("tensors", tensors_json(**source));
  Output out;
  if (arguments.has("--json"))
    out.line(facts.dump());
  else
    print_facts(out, facts, 0);
  return out.finish();
}

}  // namespace

extern const Command command_inspect;
const Command command_inspect = {
    .name = "inspect",
    .summary = "Show what is in a model file and whether it will fit.",
    .description =
        "Reads the file's directory only, so it takes no time on any size. Memory is what the model takes at several "
        "context lengths, "
        "with the types that --kv asks for.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
