// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/server/services.h"

namespace quern {

/// The oldest version of Ollama whose clients find here what they expect; some refuse less.
inline constexpr std::string_view kOllamaVersion = "0.13.4";

/// "name", "size", "details" and the rest of what Ollama's lists tell of a model.
Json ollama_model_object(const ModelCard& card, const ModelDetails& details);
/// Its "details" alone.
Json ollama_details(const ModelDetails& details);

/// The model that "model" names.
Result<std::shared_ptr<ServedModel>> ollama_model(const Json& body, ModelHost& models);

/// Whether `keep_alive` is 0: no time, or no time of some unit.
bool asks_to_unload(const Json& body);
/// A request that asks for nothing loads the model, or with `keep_alive` 0 lets it go: `reason` "load" or "unload".
/// Models go when another needs their room, so the latter does nothing, least of all load it.
struct LoadOnly {
  std::string model, reason;
};
Result<LoadOnly> load_only(const Json& body, ModelHost& models);

/// The card of that name or alias, with or without Ollama's ":latest"; null pointer: none has it.
const ModelCard* find_card(const std::vector<ModelCard>& cards, std::string_view name);

}  // namespace quern
