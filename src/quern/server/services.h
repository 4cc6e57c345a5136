// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/server/call.h"
#include "quern/server/model_facts.h"
#include "quern/server/request_queue.h"
#include "quern/server/served_model.h"

namespace quern {

/// A model that there is.
struct ModelCard {
  std::string name;
  std::vector<std::string> aliases;
  bool loaded = false;  ///< in memory now
};

/// What the lists of models show of one besides.
struct ModelDetails {
  int64_t created = 0;  ///< seconds since 1970: when its files of weights were written
  int64_t file_bytes = 0;
  std::string format = "gguf";  ///< of its files; "safetensors" of a folder
  /// Never null; empty and zero where its files cannot be read.
  std::shared_ptr<const ModelFacts> facts = std::make_shared<const ModelFacts>();
  /// Of one request. 0: unknown, or there is no room: for what --ctx asks for, without it for the fewest.
  int64_t context_tokens = 0;
};

/// The models of a server by name. Any thread.
class ModelHost {
 public:
  virtual ~ModelHost() = default;
  /// All of them; looks at no file.
  virtual std::vector<ModelCard> models() = 0;
  /// Of a model that `models` has; reads its files where they are not known as they are.
  virtual ModelDetails details(const ModelCard& card) = 0;
  /// The first that is in memory; null: none is.
  virtual std::shared_ptr<ServedModel> loaded_model() = 0;
  /// With one model any name is its name, and no name too; else an unknown one is not_found and lists the names. Loads
  /// what is not in memory, and makes room for it: may take long.
  virtual Result<std::shared_ptr<ServedModel>> model(std::string_view name) = 0;
  /// True: the model of this name is not in memory and is being loaded; `then` gets what comes of it, on another
  /// thread, and keeps it from being unloaded as long as it holds it. False: `model` answers at once.
  using Loaded = std::function<void(const Result<std::shared_ptr<ServedModel>>&)>;
  virtual bool load_later(std::string_view name, Loaded then) = 0;
  /// Where prompts of an owner went another way than what was known (Engine::prefix_misses), of all models: an array of
  /// objects; nothing where that is not reported.
  virtual std::optional<Json> prefix_misses(std::string_view owner) = 0;
  /// Prometheus text of all engines.
  virtual std::string metrics() = 0;
  /// False once an engine has failed for good: /health says so.
  virtual bool healthy() = 0;
};

/// Stored responses (Responses API), each seen only with the key that made it. Any thread.
class ResponseStore {
 public:
  virtual ~ResponseStore() = default;
  /// `record`: {"response": .., "input": [items]} as JSON text, so that who calls on the server's thread can have made
  /// the large part of it elsewhere.
  virtual void put(std::string_view owner, std::string_view id, std::string record) = 0;
  virtual std::optional<Json> get(std::string_view owner, std::string_view id) = 0;
  virtual bool remove(std::string_view owner, std::string_view id) = 0;
};

/// What a server has for its endpoints. Lives as long as the server.
struct Services {
  ModelHost& models;
  ResponseStore& responses;
  Executors executors;
  std::string version;
  std::shared_ptr<RequestQueue> requests = std::make_shared<RequestQueue>();
  std::shared_ptr<RequestQueue> readers = std::make_shared<RequestQueue>();  ///< those of `Endpoint::reads`
};

}  // namespace quern
