// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "quern/base/result.h"
#include "quern/chat/chat_template.h"
#include "quern/engine/loaded_model.h"
#include "quern/engine/request.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// A model as the dialects see it; what a test can put in its place. Any thread.
class ServedModel {
 public:
  virtual ~ServedModel() = default;
  virtual const std::string& name() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;
  /// As LoadedModel's.
  virtual Result<const ChatTemplate*> chat_template() const = 0;
  virtual const std::string& bos_text() const = 0;
  virtual const std::string& eos_text() const = 0;
  virtual const GenerationDefaults& defaults() const = 0;
  virtual const ModelInfo& info() const = 0;
  virtual int64_t context_tokens() const = 0;  ///< of one request

  /// So many requests wait that another should come later.
  virtual bool full() const { return false; }
  /// Queues a request and returns what `cancel` takes. A request that cannot be served ends with its error. The
  /// listener hears of it on the engine's thread; where that hangs, of its end on another one, even during another
  /// call.
  virtual uint64_t submit(Request request, std::shared_ptr<RequestListener> listener) = 0;
  /// The request ends as cancelled within a step; one that has ended or never was: nothing.
  virtual void cancel(uint64_t id) = 0;
};

}  // namespace quern
