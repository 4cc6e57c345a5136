// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "quern/server/call.h"
#include "quern/server/endpoint.h"

namespace quern {

// Texts as vectors of unit length: what OpenAI's route and Ollama's two have in common.

inline constexpr FieldSpec kDimensionsField = {
    .name = "dimensions",
    .type = FieldType::integer,
    .help = "The model's own width or absent: its vectors are not made to be shortened.",
    .min = 1,
    .max = 1 << 30};

/// What a body asks for by kDimensionsField must be the model's width.
Status check_dimensions(const Json& body, const ServedModel& model);

/// A call for a vector of each of `inputs`, texts or lists of ids. Errors about an input name `field`.
Result<Call> embedding_call(const std::vector<const Json*>& inputs, std::string_view field, const ServedModel& model,
                            std::string_view owner);

/// The one object of an answer, of the vectors' forms in the order of the inputs and the tokens that were read.
using EmbeddingObject = std::function<Json(Json::Array vectors, int64_t tokens)>;

/// A list of numbers, each the shortest that is the same float.
Json vector_json(const std::vector<float>& vector);

/// Writes that object. Each vector takes its form when it comes: they are not all made at the end, while others wait.
/// An input that does not fit is an error of `field`.
std::shared_ptr<AnswerWriter> embedding_answer(const Exchange& exchange, std::string field, EmbeddingObject object,
                                               Json (*form)(const std::vector<float>& vector) = vector_json);

}  // namespace quern
