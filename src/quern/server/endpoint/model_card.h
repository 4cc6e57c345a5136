// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/json.h"
#include "quern/server/services.h"

namespace quern {

/// A model as /v1/models shows it. "context_length" is that of one request.
inline Json model_json(const ModelCard& card, const ModelDetails& details) {
  const ModelInfo& info = details.facts->info;
  Json meta(Json::Object{{"architecture", info.architecture},
                         {"quantization", details.facts->main_type},
                         {"n_params", info.parameters},
                         {"size", details.file_bytes},
                         {"loaded", card.loaded}});
  Json out(Json::Object{{"id", card.name}, {"object", "model"}, {"created", details.created}, {"owned_by", "quern"}});
  if (details.context_tokens > 0) out.set("context_length", details.context_tokens);
  if (info.n_embd > 0)
    meta.set("n_ctx_train", info.context_length).set("n_embd", info.n_embd).set("n_vocab", info.n_vocab);
  Json::Array aliases;
  for (const std::string& alias : card.aliases) aliases.emplace_back(alias);
  return std::move(out.set("aliases", std::move(aliases)).set("meta", std::move(meta)));
}

}  // namespace quern
