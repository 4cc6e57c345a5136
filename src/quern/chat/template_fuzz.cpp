// SPDX-License-Identifier: Apache-2.0
// A template and, behind a zero byte, the variables as JSON. Rendering twice gives the same; what comes out is UTF-8;
// the budgets hold; errors are one line.
#include <cstdint>

#include "quern/base/utf8.h"
#include "quern/chat/chat_template.h"

namespace {

void require(bool condition) {
  if (!condition) __builtin_trap();
}

constexpr const char* kVariables =
    R"({"messages":[{"role":"system","content":"S <|im_end|>"},{"role":"user","content":"Größe Ωμ"},{"role":"assistant","content":null,)"
    R"("tool_calls":[{"id":"123456789","function":{"name":"f","arguments":{"a":1.5,"b":["x",null,true,12345678901234567890]}}}]},)"
    R"({"role":"tool","content":"R"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object",)"
    R"("properties":{"a":{"type":"number"}},"required":["a"]}}}],"bos_token":"<s>","eos_token":"</s>","add_generation_prompt":true,)"
    R"("x":1,"xs":[3,1,2],"d":{"b":1,"a":2},"names":["Ann","bob"],"rows":[{"n":"x","v":2,"ok":true},{"n":"y","v":1}]})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const auto compiled = quern::ChatTemplate::compile(input.substr(0, zero));
  if (!compiled) {
    require(compiled.error().message.find('\n') == std::string::npos);
    return 0;
  }
  static const quern::Json standard = *quern::Json::parse(kVariables);
  quern::Json variables = standard;
  if (zero != input.npos) {
    auto parsed = quern::Json::parse(input.substr(zero + 1));
    if (parsed && parsed->is_object()) variables = *std::move(parsed);
  }
  quern::RenderLimits limits;
  limits.max_steps = 50'000;
  limits.max_output_bytes = 1 << 20;
  limits.max_memory_bytes = 16 << 20;
  const auto out = compiled->render(variables, std::tm{}, limits);
  const auto again = compiled->render(variables, std::tm{}, limits);
  require(out.has_value() == again.has_value());
  if (!out) return 0;
  require(*out == *again);
  size_t bytes = 0;
  for (size_t i = 0; i < out->size(); ++i) {
    require(quern::utf8_valid((*out)[i].text) && !(*out)[i].text.empty());
    require(i == 0 || (*out)[i].from_user != (*out)[i - 1].from_user);
    bytes += (*out)[i].text.size();
  }
  require(bytes <= static_cast<size_t>(limits.max_output_bytes));
  return 0;
}
