// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/json.h"
#include "quern/engine/loaded_model.h"
#include "quern/model/source.h"

namespace quern {

/// What `quern inspect` prints: format, sizes, weight types, shape of the model, tokenizer, template, memory by context
/// length. A model that cannot run here is described as far as its file tells, with "supported": false and the reason.
Json file_facts(const ModelSource& source, const LoadOptions& options);

/// All metadata: of GGUF an object of keys, lists beyond 16 entries as {"type","size","first"}; of a folder its
/// config.json.
Json metadata_json(const ModelSource& source);

/// [{"name","type","shape","bytes"}], shapes as the container writes them.
Json tensors_json(const ModelSource& source);

}  // namespace quern
