// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "quern/server/http.h"

namespace quern {

/// An answer between those who write it (any thread, through a ResponseWriter) and the connection that sends it (the
/// server's thread). Pieces gather here until the connection can send, so what goes out at once is one chunk.
class Answer {
 public:
  /// `post` runs a task on the server's thread. `wake` is called on any thread when there is something new to look at,
  /// and not again before `look`.
  Answer(std::function<void(std::function<void()>)> post, std::function<void()> wake);

  // The server's thread.
  /// Ready for the next `wake`; bytes of pieces that wait.
  size_t look();
  struct Taken {
    std::optional<HttpResponse> head;  ///< once
    bool in_pieces = false;            ///< of the head: more may follow
    std::string pieces;                ///< what came since the last time
    bool ended = false;                ///< nothing more comes
    bool dropped = false;              ///< nothing more comes, and it is not whole
  };
  Taken take();
  /// The client has gone: whoever asked is told, through `post`, unless the answer has ended.
  void client_gone();

  // Any thread: as ResponseWriter's.
  void respond(HttpResponse response);
  void begin(HttpResponse response);
  void write(std::string piece);
  void end();
  void on_gone(std::function<void()> gone);
  void drop();  ///< nobody is left who could write

 private:
  enum class Stage { fresh, begun, ended };
  bool is_over() const { return gone_ || stage_ == Stage::ended; }
  template <typename Change>
  void change(Change&& apply);

  const std::function<void(std::function<void()>)> post_;
  const std::function<void()> wake_;
  std::mutex mutex_;
  // guarded by mutex_
  Stage stage_ = Stage::fresh;
  bool gone_ = false, dropped_ = false, woken_ = false, in_pieces_ = false;
  std::optional<HttpResponse> head_;
  std::string pieces_;
  std::function<void()> on_gone_;
};

/// The end of an answer that endpoints hold. With its last reference goes the answer.
std::shared_ptr<ResponseWriter> make_writer(std::shared_ptr<Answer> answer);

}  // namespace quern
