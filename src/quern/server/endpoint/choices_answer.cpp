// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/choices_answer.h"

#include <algorithm>
#include <utility>

#include "quern/server/errors.h"

namespace quern {

Json ChoicesAnswer::object(std::string_view kind, Json::Array choices) const {
  return Json::Object{
      {"id", id_}, {"object", kind}, {"created", created_}, {"model", model_->name()}, {"choices", std::move(choices)}};
}

Refusal ChoicesAnswer::named(const Refusal& refusal) const {
  Refusal out = refusal;
  if (out.overflow) out.param = options_.field;
  return out;
}

void WholeChoices::begin(int64_t /*prompt_tokens*/) { parts_.resize(static_cast<size_t>(options_.choices)); }

void WholeChoices::piece(int choice, std::string_view reasoning, std::string_view text,
                         std::span<const TokenInfo> tokens) {
  Part& part = parts_[static_cast<size_t>(choice)];
  part.reasoning += reasoning;
  part.text += text;
  if (options_.logprobs) part.tokens.insert(part.tokens.end(), tokens.begin(), tokens.end());
}

void WholeChoices::end_choice(int choice, const ChoiceEnd& end) {
  Part& part = parts_[static_cast<size_t>(choice)];
  part.finish = finish_name(end.finish);
  part.prompt = end.prompt_logprobs;
}

void WholeChoices::end(const CallEnd& end) {
  Json::Array choices;
  for (const Part& part : parts_) choices.push_back(choice(static_cast<int>(choices.size()), part));
  writer_->respond({.body = object(kind(), std::move(choices)).set("usage", usage_json(end)).dump()});
}

void WholeChoices::fail(const Refusal& refusal) { write_error(*writer_, options_.path, named(refusal)); }

void StreamedChoices::begin(int64_t /*prompt_tokens*/) {
  ended_.resize(static_cast<size_t>(options_.choices));
  for (int i = 0; i < options_.choices; ++i) send(first(i));
}

/// An event that clients parse and that changes nothing: comments do not reset their timers.
void StreamedChoices::alive() {
  const auto open = std::find(ended_.begin(), ended_.end(), false);
  if (open != ended_.end()) send(choice(static_cast<int>(open - ended_.begin()), {}, {}, {}, Json()));
}

void StreamedChoices::piece(int index, std::string_view reasoning, std::string_view text,
                            std::span<const TokenInfo> tokens) {
  send(choice(index, reasoning, text, tokens, Json()));
}

void StreamedChoices::end_choice(int index, const ChoiceEnd& end) {
  ended_[static_cast<size_t>(index)] = true;
  send(choice(index, {}, {}, {}, finish_name(end.finish)));
}

void StreamedChoices::end(const CallEnd& end) {
  if (options_.include_usage) stream_.send(object(kind(), {}).set("usage", usage_json(end)));
  stream_.send_text("[DONE]");
  stream_.end();
}

void StreamedChoices::fail(const Refusal& refusal) {
  if (!stream_.begun()) return write_error(*writer_, options_.path, named(refusal));
  stream_.send(error_json(Dialect::openai, refusal));
  stream_.end();
}

void StreamedChoices::send(Json choice) { stream_.send(object(kind(), Json::Array{std::move(choice)})); }

}  // namespace quern
