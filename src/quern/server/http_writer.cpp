// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http_writer.h"

#include <utility>

namespace quern {
namespace {

class Writer final : public ResponseWriter {
 public:
  explicit Writer(std::shared_ptr<Answer> answer) : answer_(std::move(answer)) {}
  ~Writer() override { answer_->drop(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void respond(HttpResponse response) override { answer_->respond(std::move(response)); }
  void begin(HttpResponse response) override { answer_->begin(std::move(response)); }
  void write(std::string piece) override { answer_->write(std::move(piece)); }
  void end() override { answer_->end(); }
  void on_gone(std::function<void()> gone) override { answer_->on_gone(std::move(gone)); }

 private:
  std::shared_ptr<Answer> answer_;
};

}  // namespace

std::shared_ptr<ResponseWriter> make_writer(std::shared_ptr<Answer> answer) {
  return std::make_shared<Writer>(std::move(answer));
}

Answer::Answer(std::function<void(std::function<void()>)> post, std::function<void()> wake)
    : post_(std::move(post)), wake_(std::move(wake)) {}

template <typename Change>
void Answer::change(Change&& apply) {
  std::function<void()> forgotten;  // may own a writer: goes outside the lock
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (is_over()) return;
    try {
      if (!apply()) return;
    } catch (...) {  // out of memory: the client must not take what follows for the whole
      stage_ = Stage::ended;
      dropped_ = true;
    }
    if (stage_ == Stage::ended) forgotten = std::exchange(on_gone_, nullptr);
    wake = !std::exchange(woken_, true);
  }
  if (!wake) return;
  try {
    wake_();
  } catch (...) {  // out of memory: the connection looks by itself now and then
    const std::lock_guard lock(mutex_);
    woken_ = false;
  }
}

void Answer::respond(HttpResponse response) {
  change([&] {
    if (stage_ != Stage::fresh) return false;
    head_ = std::move(response);
    stage_ = Stage::ended;
    return true;
  });
}

void Answer::begin(HttpResponse response) {
  change([&] {
    if (stage_ != Stage::fresh) return false;
    pieces_ = std::exchange(response.body, {});
    head_ = std::move(response);
    in_pieces_ = true;
    stage_ = Stage::begun;
    return true;
  });
}

void Answer::write(std::string piece) {
  change([&] {
    if (stage_ != Stage::begun || piece.empty()) return false;
    if (pieces_.empty()) {
      pieces_ = std::move(piece);
    } else {
      pieces_ += piece;
    }
    return true;
  });
}

void Answer::end() {
  change([&] {
    if (stage_ != Stage::begun) return false;
    stage_ = Stage::ended;
    return true;
  });
}

void Answer::drop() {
  change([&] {
    stage_ = Stage::ended;
    dropped_ = true;
    return true;
  });
}

void Answer::on_gone(std::function<void()> gone) {
  {
    const std::lock_guard lock(mutex_);
    if (stage_ == Stage::ended) return;
    if (!gone_) {
      std::swap(on_gone_, gone);  // the one before goes outside the lock
      return;
    }
  }
  if (gone) post_(std::move(gone));
}

size_t Answer::look() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  return pieces_.size();
}

Answer::Taken Answer::take() {
  const std::lock_guard lock(mutex_);
  Taken taken;
  taken.head = std::exchange(head_, std::nullopt);
  taken.in_pieces = in_pieces_;
  taken.pieces = std::exchange(pieces_, {});
  taken.ended = stage_ == Stage::ended;
  taken.dropped = dropped_;
  return taken;
}

void Answer::client_gone() {
  std::function<void()> gone;
  {
    const std::lock_guard lock(mutex_);
    if (gone_) return;
    gone_ = true;
    head_.reset();
    pieces_ = {};
    gone = std::exchange(on_gone_, nullptr);
  }
  try {
    if (gone) post_(std::move(gone));
  } catch (...) {
    // Out of memory: who works for this client finds out at the end that nobody listens.
  }
}

}  // namespace quern
