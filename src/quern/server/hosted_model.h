// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "quern/engine/engine.h"
#include "quern/server/served_model.h"

namespace quern {

/// A loaded model with its engine. Any thread.
class HostedModel : public ServedModel {
 public:
  HostedModel(std::string name, std::unique_ptr<Engine> engine);
  ~HostedModel() override;

  const std::string& name() const override { return name_; }
  const Tokenizer& tokenizer() const override { return model().tokenizer(); }
  Result<const ChatTemplate*> chat_template() const override { return model().chat_template(); }
  const std::string& bos_text() const override { return model().bos_text(); }
  const std::string& eos_text() const override { return model().eos_text(); }
  const GenerationDefaults& defaults() const override { return model().defaults(); }
  const ModelInfo& info() const override { return model().model().info(); }
  int64_t context_tokens() const override { return model().context().tokens; }
  uint64_t submit(Request request, std::shared_ptr<RequestListener> listener) override;
  bool full() const override { return engine_->full(); }
  void cancel(uint64_t id) override { engine_->cancel(id); }

  Engine& engine() { return *engine_; }
  const LoadedModel& model() const { return engine_->model(); }
  int64_t bytes() const { return info().weight_bytes + model().context().state_bytes; }

  /// Ends all requests with this error on the caller's thread: the engine's may never come back. Should it do so all
  /// the same, their listeners hear no more of it.
  void abandon(const Error& reason);

 private:
  class Hearer;
  std::shared_ptr<Hearer> take_hearer();  ///< one that still listens; null: none does
  const std::string name_;
  const std::unique_ptr<Engine> engine_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<Hearer>> hearers_;  // guarded by mutex_
};

}  // namespace quern
