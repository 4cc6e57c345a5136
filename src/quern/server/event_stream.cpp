// SPDX-License-Identifier: Apache-2.0
#include "quern/server/event_stream.h"

namespace quern {

void EventStream::send(const Json& data, std::string_view name) {
  if (format_ == EventFormat::lines) return write(data.dump() + "\n");
  write(name.empty() ? fmt::format("data: {}\n\n", data.dump())
                     : fmt::format("event: {}\ndata: {}\n\n", name, data.dump()));
}

void EventStream::send_text(std::string_view data) { write(fmt::format("data: {}\n\n", data)); }

void EventStream::write(std::string piece) {
  if (begun_) return writer_->write(std::move(piece));
  begun_ = true;
  HttpResponse response;
  response.content_type = format_ == EventFormat::lines ? "application/x-ndjson" : "text/event-stream; charset=utf-8";
  response.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};  // the latter: nginx holds back else
  response.body = std::move(piece);
  writer_->begin(std::move(response));
}

}  // namespace quern
