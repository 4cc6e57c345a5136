// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/token_texts.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "quern/io/mapped_file.h"
#include "quern/tokenizer/vocab.h"

namespace quern {

Result<TokenTexts> TokenTexts::from_gguf(const gguf::File& file) {
  const gguf::Value* tokens = file.find("tokenizer.ggml.tokens");
  if (!tokens || !tokens->is_array())
    return make_error(ErrorCode::corrupt_data, "tokenizer.ggml.tokens: expected an array, found {}",
                      tokens ? gguf::value_type_name(tokens->type()) : "none");
  const gguf::Value* types = file.find("tokenizer.ggml.token_type");
  if (types && (!types->is_array() || types->size() < tokens->size())) types = nullptr;
  TokenTexts out;
  out.texts_.reserve(static_cast<size_t>(tokens->size()));
  std::vector<std::string_view> others;  // unused ones and bytes: nothing looks these up
  for (int64_t i = 0; i < tokens->size(); ++i) {
    const auto text = tokens->string(i);
    if (!text) continue;
    const TokenType type = token_type(types ? types->integer(i).value_or(1) : 1);
    (type == TokenType::unused || type == TokenType::byte ? others : out.texts_).push_back(*text);
  }
  const auto is_other = [&](std::string_view text) { return std::ranges::find(others, text) != others.end(); };
  for (const std::string_view text :
       known_control_texts([&](std::string_view name) { return out.has(name) || is_other(name); }))
    if (is_other(text)) out.texts_.push_back(text);
  return out;
}

Result<TokenTexts> TokenTexts::from_json(const std::filesystem::path& tokenizer_json) {
  QUERN_TRY(const std::string text, read_text_file(tokenizer_json));
  auto document = Json::parse(text);
  if (!document) return std::move(document).error().in(tokenizer_json.string());
  TokenTexts out;
  out.document_ = *std::move(document);
  const auto add = [&](const Json* token) {
    if (token && token->is_string()) out.texts_.push_back(token->string());
  };
  if (const Json* added = out.document_.find("added_tokens"); added && added->is_array())
    for (const Json& token : added->array()) add(token.find("content"));
  const Json* model = out.document_.find("model");
  const Json* vocab = model ? model->find("vocab") : nullptr;
  if (vocab && vocab->is_object())
    for (const auto& [token, id] : vocab->object()) out.texts_.push_back(token);
  if (vocab && vocab->is_array())  // unigram: [text, score]
    for (const Json& token : vocab->array())
      if (token.is_array() && !token.array().empty()) add(token.array().data());
  if (out.texts_.empty())
    return make_error(ErrorCode::corrupt_data, "{}: model.vocab: expected tokens, found none", tokenizer_json.string());
  return out;
}

bool TokenTexts::has(std::string_view text) const { return std::ranges::find(texts_, text) != texts_.end(); }

}  // namespace quern
