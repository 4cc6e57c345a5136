// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/errors.h"
#include "quern/server/services.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

constexpr auto kFields = std::to_array<FieldSpec>({
    kModelField,
    {.name = "content", .type = FieldType::text, .help = "The text.", .required = true},
    {.name = "add_special", .type = FieldType::boolean, .help = "Add the begin and end tokens of the vocabulary."},
    {.name = "parse_special", .type = FieldType::boolean, .help = "Recognise control tokens in the text."},
});

void handle(Exchange&& exchange, Services& services) {
  const auto model = named_model(exchange.body, services.models);
  if (!model) return write_error(*exchange.writer, exchange.http.path, model.error());
  Json::Array ids;
  for (const TokenId id : (*model)->tokenizer().encode(
           field(exchange.body, "content")->string(),
           {.add_special = flag(exchange.body, "add_special"), .parse_special = flag(exchange.body, "parse_special")}))
    ids.emplace_back(id);
  exchange.writer->respond({.body = Json(Json::Object{{"tokens", std::move(ids)}}).dump()});
}

}  // namespace

extern const Endpoint endpoint_tokenize;
const Endpoint endpoint_tokenize = {
    .method = "POST",
    .path = "/tokenize",
    .summary = "The token ids of a text.",
    .fields = kFields,
    .handle = handle,
};

}  // namespace quern
