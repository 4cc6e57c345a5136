// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/base/result.h"
#include "quern/chat/chat_template.h"
#include "quern/engine/memory.h"
#include "quern/engine/runner.h"
#include "quern/engine/session.h"
#include "quern/kernels/isa.h"
#include "quern/model/model.h"
#include "quern/model/source.h"
#include "quern/parallel/pool.h"
#include "quern/sample/sampler.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// What the makers of a model recommend (generation_config.json); nothing where they say nothing.
struct GenerationDefaults {
  std::optional<float> temperature, top_p, min_p, repeat_penalty;
  std::optional<int> top_k;
  std::vector<TokenId> end_ids;
};

struct LoadOptions {
  int threads = 0;         ///< 0: Pool::default_threads()
  std::optional<Isa> isa;  ///< nothing: the best
  KvType kv = KvType::bf16;
  int64_t context = 0;        ///< 0: what the model was trained for, as far as memory allows
  int64_t memory_budget = 0;  ///< 0: what is available
  int sequences = 1;          ///< that the context memory shall hold at once
  /// Context memory for this many sequences where there is room, and for what was read before; one must fit. 0: for
  /// exactly `sequences`.
  int shared_by = 0;
  bool whole_budget = false;  ///< with `shared_by`: no other model shares the memory budget
};

/// A model ready to run: file, weights, tokenizer, template, state memory. One engine thread uses it.
class LoadedModel {
 public:
  /// `progress`: bytes done and in all, false stops (cancelled).
  static Result<std::unique_ptr<LoadedModel>> load(const std::filesystem::path& path, const LoadOptions& options,
                                                   FunctionRef<bool(int64_t, int64_t)> progress);

  const ModelSource& source() const { return *source_; }
  const Model& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  /// The model's chat template, or one of ours that its control tokens tell; null for a base model. An error if the
  /// model brings one that does not compile.
  Result<const ChatTemplate*> chat_template() const {
    if (!template_) return template_.error();
    return template_->has_value() ? &**template_ : nullptr;
  }
  /// Texts of the BOS and EOS tokens, as templates want them; empty where the model has none.
  const std::string& bos_text() const { return bos_text_; }
  const std::string& eos_text() const { return eos_text_; }
  const GenerationDefaults& defaults() const { return defaults_; }
  const ContextPlan& context() const { return plan_; }
  /// The files that it is mapped from.
  std::vector<std::filesystem::path> files() const { return source_->paths(); }
  /// Tells apart whose state it is: a hash of the hyper-parameters, of every tensor's name, type, shape and a piece of
  /// its numbers, of when its files were last written, and of the kernels that compute with them.
  uint64_t fingerprint() const;
  Isa isa() const { return isa_; }
  KvType kv() const { return kv_; }
  Pool& pool() { return *pool_; }
  StateStore& store() { return *store_; }
  Runner& runner() { return *runner_; }
  /// A new conversation with the whole context.
  Session session(int chunk = 512) { return Session(*runner_, *store_, plan_.tokens, chunk); }

 private:
  LoadedModel() = default;
  std::unique_ptr<ModelSource> source_;  // mapped: outlives the model's views
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Result<std::optional<ChatTemplate>> template_ = std::optional<ChatTemplate>();
  std::string bos_text_, eos_text_;
  GenerationDefaults defaults_;
  Isa isa_ = Isa::x86_64_v2;
  KvType kv_ = KvType::bf16;
  ContextPlan plan_{};
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<Runner> runner_;
};

/// The tokenizer of a GGUF file, a model folder, a tokenizer.json or (with `pre`) a .tiktoken file.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::filesystem::path& path, std::string_view pre = {});
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const ModelSource& source);

/// The text of the chat template of a GGUF file, a model folder, a .jinja file or a tokenizer_config.json, and the
/// texts of the BOS and EOS tokens that go with it (empty where unknown). Nothing if a model has no template.
struct TemplateSource {
  std::string text, bos_token, eos_token;
};
Result<std::optional<TemplateSource>> load_template_source(const std::filesystem::path& path);
Result<std::optional<TemplateSource>> load_template_source(const ModelSource& source);
/// The model's own template, else one of ours that its control tokens tell; nothing for a base model.
Result<std::optional<ChatTemplate>> compile_template(const std::optional<TemplateSource>& source,
                                                     FunctionRef<bool(std::string_view token)> has_token);

}  // namespace quern
