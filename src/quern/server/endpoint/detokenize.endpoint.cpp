// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/errors.h"
#include "quern/server/prompts.h"
#include "quern/server/services.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

constexpr auto kFields = std::to_array<FieldSpec>({
    kModelField,
    {.name = "tokens",
     .type = FieldType::list,
     .help = "The token ids.",
     .required = true,
     .schema = R"({"type":"array","items":{"type":"integer","minimum":0}})"},
});

/// With the names of control tokens: they are part of what was asked.
std::string text_of(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string text;
  bool first = tokenizer.strips_first_space();
  for (const TokenId id : ids) {
    std::string_view piece = tokenizer.piece(id, true);
    if (first && !tokenizer.is_special(id) && !piece.empty()) {
      if (piece.front() == ' ') piece.remove_prefix(1);
      first = false;
    }
    text += piece;
  }
  return text;
}

void handle(Exchange&& exchange, Services& services) {
  const auto model = named_model(exchange.body, services.models);
  if (!model) return write_error(*exchange.writer, exchange.http.path, model.error());
  const auto ids = checked_ids(field(exchange.body, "tokens")->array(), **model, "tokens");
  if (!ids) return write_error(*exchange.writer, exchange.http.path, ids.error());
  exchange.writer->respond({.body = Json(Json::Object{{"content", text_of((*model)->tokenizer(), *ids)}}).dump()});
}

}  // namespace

extern const Endpoint endpoint_detokenize;
const Endpoint endpoint_detokenize = {
    .method = "POST",
    .path = "/detokenize",
    .summary = "The text of token ids.",
    .fields = kFields,
    .handle = handle,
};

}  // namespace quern
