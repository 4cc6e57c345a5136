// SPDX-License-Identifier: Apache-2.0
// A vocabulary (tokenizer.json, GGUF or .tiktoken), a line "===", then a text. Whatever vocabulary is accepted encodes
// any text to ids of its own, streams whole characters, and never makes a control token of what a user wrote.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "quern/base/utf8.h"
#include "quern/tokenizer/tokenizer.h"
#include "quern/tokenizer/tokenizer_json.h"

namespace {

using namespace quern;

constexpr std::string_view kLine = "\n===\n";

void require(bool condition) {
  if (!condition) __builtin_trap();
}

Result<std::unique_ptr<Tokenizer>> load(std::string_view bytes) {
  if (bytes.starts_with("GGUF")) {
    QUERN_TRY(const auto file, gguf::File::parse(std::as_bytes(std::span(bytes))));
    return Tokenizer::from_gguf(file);
  }
  if (bytes.starts_with("{")) return tokenizer_from_json_text(bytes, nullptr);
  return tokenizer_from_tiktoken_text(bytes, "qwen");
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {false, true}) {
    const auto ids = tokenizer.encode(text, {.add_special = special, .parse_special = special});
    StreamDecoder decoder(tokenizer);
    for (const TokenId id : ids) {
      require(id >= 0 && id < tokenizer.size());
      require(utf8_valid(decoder.push(id)));
    }
    require(utf8_valid(decoder.flush()));
    require(utf8_valid(tokenizer.decode_from_start(ids)));
  }
  const std::vector<Segment> prompt = {{std::string(text.substr(0, text.size() / 2)), true},
                                       {std::string(text.substr(text.size() / 2)), false}};
  for (const TokenId id : tokenizer.encode_prompt(prompt)) require(id >= 0 && id < tokenizer.size());
  tokenizer.find(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.rfind(kLine);
  const std::string vocabulary(input.substr(0, cut));
  const std::string_view text =
      cut == input.npos ? input.substr(input.size() - input.size() / 4) : input.substr(cut + kLine.size());
  const auto tokenizer = load(vocabulary);
  if (tokenizer)
    use(**tokenizer, text);
  else
    require(!tokenizer.error().message.empty());
  return 0;
}
