// SPDX-License-Identifier: Apache-2.0
#include "quern/server/hosted_model.h"

#include <atomic>
#include <utility>

namespace quern {

/// Between an engine and who listens: passes on what comes up to the end, which two threads may be the first to tell.
class HostedModel::Hearer : public RequestListener {
 public:
  explicit Hearer(std::shared_ptr<RequestListener> listener) : listener_(std::move(listener)) {}
  void on_prompt(int64_t done, int64_t total) override {
    if (!ended_) listener_->on_prompt(done, total);
  }
  void on_token(const TokenInfo& token, std::string_view text) override {
    if (!ended_) listener_->on_token(token, text);
  }
  void on_end(const RequestEnd& end, std::string_view text) override {
    if (!ended_.exchange(true)) listener_->on_end(end, text);
  }

 private:
  const std::shared_ptr<RequestListener> listener_;
  std::atomic<bool> ended_{false};
};

HostedModel::HostedModel(std::string name, std::unique_ptr<Engine> engine)
    : name_(std::move(name)), engine_(std::move(engine)) {}

HostedModel::~HostedModel() = default;

uint64_t HostedModel::submit(Request request, std::shared_ptr<RequestListener> listener) {
  const auto hearer = std::make_shared<Hearer>(std::move(listener));
  {
    const std::scoped_lock lock(mutex_);
    std::erase_if(hearers_, [](const auto& weak) { return weak.expired(); });
    hearers_.push_back(hearer);
  }
  return engine_->submit(std::move(request), hearer);
}

void HostedModel::abandon(const Error& reason) {
  RequestEnd end;
  end.error = reason;
  // One after the other: where memory is short and this throws, the next try finds those who have not been told.
  while (const auto hearer = take_hearer()) hearer->on_end(end, {});
}

std::shared_ptr<HostedModel::Hearer> HostedModel::take_hearer() {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<Hearer> hearer;
  while (!hearer && !hearers_.empty()) {
    hearer = hearers_.back().lock();
    hearers_.pop_back();
  }
  return hearer;
}

}  // namespace quern
