// SPDX-License-Identifier: Apache-2.0
#include "quern/server/fill_in.h"

#include "quern/server/prompts.h"

namespace quern {
namespace {

/// Names of one family's tokens. Without `middle` the suffix goes first: [SUFFIX]..[PREFIX]...
struct Family {
  std::string_view prefix, suffix, middle;
};
constexpr Family kFamilies[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},     // Qwen
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},           // StarCoder, Granite
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},           // SantaCoder
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},     // DeepSeek: the hole stands where the suffix begins
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"},  // GLM
    {"▁<PRE>", "▁<SUF>", "▁<MID>"},                             // CodeLlama
    {"<PRE>", "<SUF>", "<MID>"},
    {"[PREFIX]", "[SUFFIX]", ""},  // Codestral
};

/// Names of the tokens that stand before a repository and before each of its files.
struct Repository {
  std::string_view repository, file;
};
constexpr Repository kRepositories[] = {
    {"<|repo_name|>", "<|file_sep|>"}, {"<repo_name>", "<file_sep>"}, {"<reponame>", "<file_sep>"}};

/// Null: none of them.
const Family* find_family(FunctionRef<bool(std::string_view)> has_token) {
  for (const Family& family : kFamilies)
    if (has_token(family.prefix) && has_token(family.suffix) && (family.middle.empty() || has_token(family.middle)))
      return &family;
  return nullptr;
}

class Prompt {
 public:
  explicit Prompt(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void add(TokenId id) { ids_.push_back(id); }
  void add(std::string_view text) {
    const auto more = tokenizer_.encode(text, {});
    ids_.insert(ids_.end(), more.begin(), more.end());
  }
  void add_files(const std::vector<FillIn::File>& files) {
    if (files.empty()) return;
    for (const Repository& names : kRepositories) {
      const auto repository = tokenizer_.find(names.repository), separator = tokenizer_.find(names.file);
      if (!repository || !separator) continue;
      add(*repository);
      add("repository\n");
      for (const FillIn::File& file : files) {
        add(*separator);
        add(file.name + "\n" + file.text);
      }
      return add(*separator);
    }
    for (const FillIn::File& file : files) add("--- " + file.name + " ---\n" + file.text + "\n\n");
  }
  std::vector<TokenId> finish() && {
    add_begin(tokenizer_, ids_);
    return std::move(ids_);
  }

 private:
  const Tokenizer& tokenizer_;
  std::vector<TokenId> ids_;
};

}  // namespace

bool fills_holes(FunctionRef<bool(std::string_view)> has_token) { return find_family(has_token) != nullptr; }

Result<std::vector<TokenId>> fill_in_ids(const Tokenizer& tokenizer, const FillIn& hole, std::string_view field) {
  const Family* family = find_family([&](std::string_view token) { return tokenizer.find(token).has_value(); });
  if (!family)
    return make_error(ErrorCode::unsupported,
                      "{}: expected a model with fill-in-the-middle tokens, this one's vocabulary has none", field);
  Prompt prompt(tokenizer);
  prompt.add_files(hole.files);
  const TokenId prefix = *tokenizer.find(family->prefix), suffix = *tokenizer.find(family->suffix);
  if (!family->middle.empty()) {
    prompt.add(prefix);
    prompt.add(hole.prefix);
    prompt.add(suffix);
    prompt.add(hole.suffix);
    prompt.add(*tokenizer.find(family->middle));
  } else {
    prompt.add(suffix);
    prompt.add(hole.suffix);
    prompt.add(prefix);
    prompt.add(hole.prefix);
  }
  if (!hole.begun.empty()) prompt.add(hole.begun);
  return std::move(prompt).finish();
}

}  // namespace quern
