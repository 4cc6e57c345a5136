// SPDX-License-Identifier: Apache-2.0
#include "quern/server/prompts.h"

#include <algorithm>

#include "quern/server/fields.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

bool is_id(const Json& value) { return value.is_integer() && value.integer() >= 0; }

bool is_ids(const Json& value) {
  return value.is_array() && !value.array().empty() && std::all_of(value.array().begin(), value.array().end(), is_id);
}

}  // namespace

Status check_prompt(const Json& value) {
  constexpr std::string_view expected = "expected a text, token ids or a list of these that is not empty";
  if (value.is_string() || is_ids(value)) return {};
  if (!value.is_array() || value.array().empty())
    return make_error(ErrorCode::invalid_argument, ": {}, found {}", expected, found_text(value));
  const Json::Array& list = value.array();
  if (list.size() > kMaxChoices)
    return make_error(ErrorCode::invalid_argument, ": expected at most {} prompts, found {}", kMaxChoices, list.size());
  for (size_t i = 0; i < list.size(); ++i)
    if (!list[i].is_string() && !is_ids(list[i]))
      return make_error(ErrorCode::invalid_argument, "[{}]: expected a text or token ids like the others, found {}", i,
                        found_text(list[i]));
  return {};
}

std::vector<const Json*> prompt_list(const Json& value) {
  if (value.is_string() || is_ids(value)) return {&value};
  std::vector<const Json*> out;
  for (const Json& prompt : value.array()) out.push_back(&prompt);
  return out;
}

void add_begin(const Tokenizer& tokenizer, std::vector<TokenId>& ids) {
  const auto bos = tokenizer.bos();
  if (tokenizer.adds_bos() && bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
}

Result<std::vector<TokenId>> checked_ids(const Json::Array& list, const ServedModel& model, std::string_view name) {
  const int64_t size = vocabulary_size(model);
  std::vector<TokenId> ids;
  ids.reserve(list.size() + 1);
  for (const Json& id : list) {
    if (!id.is_integer() || id.integer() < 0 || id.integer() >= size)
      return make_error(ErrorCode::invalid_argument, "{}: expected token ids from 0 to {}, found {}", name, size - 1,
                        found_text(id));
    ids.push_back(static_cast<TokenId>(id.integer()));
  }
  return ids;
}

Result<std::vector<TokenId>> prompt_ids(const Json& prompt, const ServedModel& model, std::string_view name) {
  std::vector<TokenId> ids;
  if (prompt.is_string()) {
    ids = model.tokenizer().encode(prompt.string(), {.add_special = false, .parse_special = true});
  } else {
    QUERN_TRY(ids, checked_ids(prompt.array(), model, name));
  }
  add_begin(model.tokenizer(), ids);
  // Without any token there is nothing to go on from: an end token begins a new text.
  if (const auto eos = model.tokenizer().eos(); ids.empty() && eos) ids.push_back(*eos);
  const int64_t size = vocabulary_size(model);
  for (const TokenId id : ids)
    if (id >= size)
      return make_error(ErrorCode::invalid_argument, "{}: token {}, the model has rows for {} alone", name, id, size);
  return ids;
}

}  // namespace quern
