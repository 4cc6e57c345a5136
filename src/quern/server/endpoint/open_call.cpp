// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/open_call.h"

#include "quern/server/services.h"
#include "quern/server/settings.h"

namespace quern {

void open_call(const Exchange& exchange, Services& services, CallOf* call_of, AnswerOf* answer_of) {
  auto model = named_model(exchange.body, services.models);
  if (!model) return write_error(*exchange.writer, exchange.http.path, model.error());
  auto call = call_of(exchange.body, **model, exchange.owner);
  if (!call) return write_error(*exchange.writer, exchange.http.path, call.error());
  auto answer = answer_of(exchange, *call, *model);
  run_call(*std::move(model), *std::move(call), std::move(answer), exchange.writer, services.executors);
}

}  // namespace quern
