// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/server_props.h"

#include "quern/server/services.h"

namespace quern {
namespace {

Json model_props(const ServedModel& model) {
  const auto chat_template = model.chat_template();
  const bool has = chat_template && *chat_template;
  return Json::Object{{"model_alias", model.name()},
                      {"default_generation_settings", Json::Object{{"n_ctx", model.context_tokens()}}},
                      {"chat_template", has ? Json((*chat_template)->source()) : Json()},
                      {"bos_token", model.bos_text()},
                      {"eos_token", model.eos_text()}};
}

}  // namespace

void answer_props(Exchange&& exchange, Services& services) {
  const auto model = services.models.loaded_model();
  Json out = model ? model_props(*model) : Json(Json::Object{});
  out.set("modalities", Json::Object{{"vision", false}, {"audio", false}});
  out.set("build_info", fmt::format("quern {}", services.version));
  exchange.writer->respond({.body = out.dump()});
}

}  // namespace quern
