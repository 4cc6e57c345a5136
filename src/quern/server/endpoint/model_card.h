// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/json.h"
#include "quern/server/services.h"

namespace quern {

/// A model as /v1/models shows it. "context_length" is that of one request, there while the model is in memory.
inline Json model_json(const ModelCard& card) {
  Json meta(Json::Object{{"architecture", card.architecture},
                         {"quantization", card.file_types},
                         {"n_params", card.parameters},
                         {"size", card.file_bytes},
                         {"loaded", card.loaded != nullptr}});
  Json out(Json::Object{{"id", card.name}, {"object", "model"}, {"created", card.created}, {"owned_by", "quern"}});
  if (card.loaded) {
    const ModelInfo& info = card.loaded->info();
    out.set("context_length", card.loaded->context_tokens());
    meta.set("n_ctx_train", info.context_length).set("n_embd", info.n_embd).set("n_vocab", info.n_vocab);
  }
  Json::Array aliases;
  for (const std::string& alias : card.aliases) aliases.emplace_back(alias);
  return std::move(out.set("aliases", std::move(aliases)).set("meta", std::move(meta)));
}

}  // namespace quern
