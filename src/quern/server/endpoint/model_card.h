// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/json.h"
#include "quern/server/services.h"

namespace quern {

/// A model as /v1/models shows it. "context_length" is that of one request.
inline Json model_json(const ModelCard& card) {
  const ModelFacts& facts = card.facts;
  Json meta(Json::Object{{"architecture", facts.architecture},
                         {"quantization", facts.main_type},
                         {"n_params", facts.parameters},
                         {"size", card.file_bytes},
                         {"loaded", card.loaded != nullptr}});
  Json out(Json::Object{{"id", card.name}, {"object", "model"}, {"created", card.created}, {"owned_by", "quern"}});
  if (facts.context_tokens > 0) out.set("context_length", facts.context_tokens);
  if (facts.n_embd > 0)
    meta.set("n_ctx_train", facts.trained_context_tokens).set("n_embd", facts.n_embd).set("n_vocab", facts.n_vocab);
  Json::Array aliases;
  for (const std::string& alias : card.aliases) aliases.emplace_back(alias);
  return std::move(out.set("aliases", std::move(aliases)).set("meta", std::move(meta)));
}

}  // namespace quern
