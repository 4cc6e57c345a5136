// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "quern/server/call.h"
#include "quern/server/endpoint.h"

namespace quern {

using CallOf = Result<Call>(const Json& body, const ServedModel& model, std::string_view owner);
using AnswerOf = std::shared_ptr<AnswerWriter>(const Exchange& exchange, const Call& call,
                                               const std::shared_ptr<ServedModel>& model);

/// Finds the model that a body names, makes a call of the body and runs it; what speaks against that is the answer.
void open_call(const Exchange& exchange, Services& services, CallOf* call_of, AnswerOf* answer_of);

}  // namespace quern
