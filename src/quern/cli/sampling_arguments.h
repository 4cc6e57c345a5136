// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "quern/base/result.h"
#include "quern/cli/arguments.h"
#include "quern/engine/loaded_model.h"
#include "quern/sample/sampler.h"

namespace quern {

/// Options that choose how the next token is drawn; definitions in docs/sampling.md.
inline constexpr OptionSpec kSamplingOptions[] = {
    {.name = "--temp",
     .metavar = "T",
     .help = "Temperature; 0 always takes the most likely token.",
     .type = OptionType::number,
     .min = 0,
     .max = 100,
     .default_text = "what the model's makers recommend, else 0.8"},
    {.name = "--top-k",
     .metavar = "N",
     .help = "Keep the N most likely tokens; 0 keeps all.",
     .type = OptionType::integer,
     .min = 0,
     .max = 1'000'000,
     .default_text = "recommended, else 40"},
    {.name = "--top-p",
     .metavar = "P",
     .help = "Keep the most likely tokens that together have this probability.",
     .type = OptionType::number,
     .min = 0,
     .max = 1,
     .default_text = "recommended, else 0.95"},
    {.name = "--min-p",
     .metavar = "P",
     .help = "Drop tokens below this share of the most likely one's probability.",
     .type = OptionType::number,
     .min = 0,
     .max = 1,
     .default_text = "recommended, else 0.05"},
    {.name = "--typical",
     .metavar = "P",
     .help = "Keep the most typical tokens that together have this probability.",
     .type = OptionType::number,
     .min = 0,
     .max = 1,
     .default_text = "1"},
    {.name = "--repeat-penalty",
     .metavar = "R",
     .help = "Divides the logits of the last 64 tokens.",
     .type = OptionType::number,
     .min = 0.001,
     .max = 1000,
     .default_text = "recommended, else 1"},
    {.name = "--presence-penalty",
     .metavar = "P",
     .help = "Taken off the logit of a token that stood among the last 64.",
     .type = OptionType::number,
     .min = -100,
     .max = 100,
     .default_text = "0"},
    {.name = "--frequency-penalty",
     .metavar = "P",
     .help = "The same, for every time it stood there.",
     .type = OptionType::number,
     .min = -100,
     .max = 100,
     .default_text = "0"},
    {.name = "--logit-bias",
     .metavar = "ID=B",
     .help = "Added to the logit of a token; -inf bans it.",
     .type = OptionType::text,
     .repeatable = true},
};

/// What the model's makers recommend, else what most people use.
SamplingOptions default_sampling(const GenerationDefaults& defaults);

/// Sets what one option of the table asks for; `--logit-bias` is not among these.
void set_sampling(SamplingOptions& out, std::string_view option, double value);

/// The defaults with the line's options over them. Fails only for --logit-bias (ids, form): wrong usage.
Result<SamplingOptions> sampling_options(const Arguments& arguments, const GenerationDefaults& defaults);

/// --logit-bias alone, before a model is there: its form.
Result<std::pair<int32_t, float>> parse_logit_bias(std::string_view text);

/// --seed, or a random one; both below 2^53, so that JSON carries it everywhere.
uint64_t seed_of(const Arguments& arguments);

}  // namespace quern
