// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/server/http.h"

namespace quern {

enum class EventFormat : uint8_t {
  server_sent,  ///< text/event-stream
  lines,        ///< application/x-ndjson: one object per line
};

/// An answer made of events. Headers go out with the first one.
class EventStream {
 public:
  EventStream(std::shared_ptr<ResponseWriter> writer, EventFormat format)
      : writer_(std::move(writer)), format_(format) {}

  bool begun() const { return begun_; }
  /// `name` is that of a server-sent event; empty: without.
  void send(const Json& data, std::string_view name = {});
  /// Text that is not JSON: "[DONE]".
  void send_text(std::string_view data);
  void end() { writer_->end(); }

 private:
  void write(std::string piece);
  std::shared_ptr<ResponseWriter> writer_;
  EventFormat format_;
  bool begun_ = false;
};

}  // namespace quern
