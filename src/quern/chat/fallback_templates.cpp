// SPDX-License-Identifier: Apache-2.0
// Plain chats (system, user, assistant, tool results as text) in the layouts that families of models were trained on,
// for files that bring no template. No tool calls: a model's own syntax for them is not to be guessed.
#include "quern/chat/messages.h"

namespace quern {
namespace {

constexpr std::string_view kChatMl = R"({% for m in messages -%}
<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}
{{ m.content }}<|im_end|>
{% endfor -%}
{% if add_generation_prompt -%}
<|im_start|>assistant
{% endif %})";

constexpr std::string_view kLlama3 = R"({{ bos_token }}
{%- for m in messages -%}
<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>

{{ m.content | trim }}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}
{%- endif %})";

constexpr std::string_view kHarmony = R"(<|start|>system<|message|>You are a helpful assistant.
Current date: {{ strftime_now('%Y-%m-%d') }}

Reasoning: {{ reasoning_effort or 'medium' }}

# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>
{%- for m in messages -%}
{%- if m.role in ['system', 'developer'] -%}
<|start|>developer<|message|># Instructions{{ '\n\n' }}{{ m.content }}<|end|>
{%- elif m.role == 'assistant' -%}
<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>
{%- else -%}
<|start|>user<|message|>{{ m.content }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif %})";

constexpr std::string_view kDeepSeek = R"({{ bos_token }}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{ m.content }}
{%- elif m.role == 'assistant' -%}<｜Assistant｜>{{ m.content.split('</think>') | last }}<｜end▁of▁sentence｜>
{%- else -%}<｜User｜>{{ m.content }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<｜Assistant｜>{%- endif %})";

constexpr std::string_view kGemma = R"({{ bos_token }}
{%- set start = namespace(text='') -%}
{%- for m in messages -%}
{%- if m.role == 'system' -%}
{%- set start.text = start.text + m.content + '\n\n' -%}
{%- else -%}
<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}{{ '\n' }}
{%- if m.role != 'assistant' -%}{{ start.text }}{%- set start.text = '' -%}{%- endif -%}
{{ m.content | trim }}<end_of_turn>{{ '\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<start_of_turn>model{{ '\n' }}{%- endif %})";

constexpr std::string_view kMistral = R"({{ bos_token }}
{%- set start = namespace(text='') -%}
{%- for m in messages -%}
{%- if m.role == 'system' -%}
{%- set start.text = start.text + m.content + '\n\n' -%}
{%- elif m.role == 'assistant' -%}
{{ ' ' + m.content + eos_token }}
{%- else -%}
[INST] {{ start.text + m.content }} [/INST]
{%- set start.text = '' -%}
{%- endif -%}
{%- endfor %})";

constexpr std::string_view kErnie = R"(<|begin_of_sentence|>
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{ m.content + '\n' }}
{%- elif m.role == 'assistant' -%}Assistant: {{ m.content }}<|end_of_sentence|>
{%- else -%}User: {{ m.content + '\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}Assistant: {{ '' }}{%- endif %})";

constexpr std::string_view kRoleTags = R"({% for m in messages -%}
<|{{ 'user' if m.role == 'tool' else m.role }}|>
{{ m.content }}<|end|>
{% endfor -%}
{% if add_generation_prompt -%}
<|assistant|>
{% endif %})";

struct Family {
  std::string_view tokens[2];  ///< both must be there; the second may be empty
  std::string_view source;
};

// Marks that only one family has come first.
constexpr Family kFamilies[] = {
    {{"<|channel|>", "<|message|>"}, kHarmony},
    {{"<|im_start|>", "<|im_end|>"}, kChatMl},
    {{"<|start_header_id|>", "<|eot_id|>"}, kLlama3},
    {{"<｜User｜>", "<｜Assistant｜>"}, kDeepSeek},
    {{"<start_of_turn>", "<end_of_turn>"}, kGemma},
    {{"<|begin_of_sentence|>", "<|end_of_sentence|>"}, kErnie},
    {{"[INST]", "[/INST]"}, kMistral},
    {{"<|assistant|>", "<|end|>"}, kRoleTags},
};

}  // namespace

std::optional<std::string_view> fallback_chat_template(FunctionRef<bool(std::string_view)> has_token) {
  for (const Family& family : kFamilies)
    if (has_token(family.tokens[0]) && has_token(family.tokens[1])) return family.source;
  return std::nullopt;
}

}  // namespace quern
