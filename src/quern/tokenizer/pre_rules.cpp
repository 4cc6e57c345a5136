// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/pre_rules.h"

namespace quern {
namespace {

// Parts that several rules share. Contractions fold the case.
#define QUERN_CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define QUERN_TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QUERN_WORDS(digits) \
  QUERN_CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" QUERN_TAIL
#define QUERN_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define QUERN_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define QUERN_CASED_WORDS(suffix, digits)                                                               \
  "[^\\r\\n\\p{L}\\p{N}]?" QUERN_UPPER "*" QUERN_LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" QUERN_UPPER \
  "+" QUERN_LOWER "*" suffix "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" QUERN_TAIL
#define QUERN_DEEPSEEK_WORDS \
  "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" QUERN_TAIL

// The cased letters of deepseek-llm: frozen in its makers' pattern, so a list and not a property.
constexpr std::string_view kDeepseekLetters =
    "\\s?[A-Za-z\\u00B5\\u00C0-\\u00D6\\u00D8-\\u00F6\\u00F8-\\u01BA\\u01BC-\\u01BF\\u01C4-\\u0293\\u0295-\\u02AF"
    "\\u0370-\\u0373\\u0376-\\u0377\\u037B-\\u037D\\u037F\\u0386\\u0388-\\u038A\\u038C\\u038E-\\u03A1\\u03A3-\\u03F5"
    "\\u03F7-\\u0481\\u048A-\\u052F\\u0531-\\u0556\\u10A0-\\u10C5\\u13A0-\\u13F5\\u13F8-\\u13FD\\u1C90-\\u1CBA"
    "\\u1CBD-\\u1CBF\\u1D00-\\u1D2B\\u1D6B-\\u1D77\\u1D79-\\u1D9A\\u1E00-\\u1F15\\u1F18-\\u1F1D\\u1F20-\\u1F45"
    "\\u1F48-\\u1F4D\\u1F50-\\u1F57\\u1F59\\u1F5B\\u1F5D\\u1F5F-\\u1F7D\\u1F80-\\u1FB4\\u1FB6-\\u1FBC\\u1FBE"
    "\\u1FC2-\\u1FC4\\u1FC6-\\u1FCC\\u1FD0-\\u1FD3\\u1FD6-\\u1FDB\\u1FE0-\\u1FEC\\u1FF2-\\u1FF4\\u1FF6-\\u1FFC"
    "\\u2102\\u2107\\u210A-\\u2113\\u2115\\u2119-\\u211D\\u2124\\u2126\\u2128\\u212A-\\u212D\\u212F-\\u2134\\u2139"
    "\\u213C-\\u213F\\u2145-\\u2149\\u214E\\u2183-\\u2184\\u2C00-\\u2C7B\\u2C7E-\\u2CE4\\u2CEB-\\u2CEE\\u2CF2-\\u2CF3"
    "\\uA640-\\uA66D\\uA680-\\uA69B\\uA722-\\uA76F\\uA771-\\uA787\\uA78B-\\uA78E\\uAB70-\\uABBF\\uFB00-\\uFB06"
    "\\uFB13-\\uFB17\\uFF21-\\uFF3A\\uFF41-\\uFF5A\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+";
constexpr std::string_view kDeepseekCjk = "[\\u4E00-\\u9FA5\\u0800-\\u4E00\\uAC00-\\uD7FF]+";
constexpr std::string_view kDigitTriples = "\\p{N}{1,3}";
constexpr std::string_view kCjkRun = "[\\u4E00-\\u9FA5\\u3040-\\u309F\\u30A0-\\u30FF]+";
constexpr std::string_view kBloomPattern = " ?[^(\\s|.,!?\\u2026\\u3002\\uFF0C\\u3001\\u0964\\u06D4\\u060C)]+";

constexpr std::string_view kDefault[] = {"[\\p{P}\\$\\+<=>\\^~\\|]+", kGpt2Pattern, "\\p{N}+", "[0-9][0-9][0-9]"};
constexpr std::string_view kGpt2[] = {kGpt2Pattern};
constexpr std::string_view kDigitsApart[] = {"\\p{N}", kGpt2Pattern};
constexpr std::string_view kFalcon[] = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", kGpt2Pattern, "[0-9][0-9][0-9]"};
constexpr std::string_view kLlama3[] = {QUERN_WORDS("\\p{N}{1,3}")};
constexpr std::string_view kQwen2[] = {QUERN_WORDS("\\p{N}")};
constexpr std::string_view kLaguna[] = {"[^\\n]+|\\n+", QUERN_WORDS("\\p{N}")};
constexpr std::string_view kQwen35[] = {QUERN_CONTRACTION
                                        "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
                                        "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" QUERN_TAIL};
constexpr std::string_view kDeepseekV3[] = {kDigitTriples, kCjkRun, QUERN_DEEPSEEK_WORDS};
constexpr std::string_view kDeepseekLlm[] = {"[\\r\\n]",
                                             kDeepseekLetters,
                                             "\\s?[\\u0021-\\u002F\\u003A-\\u007E\\uFF01-\\uFF0F\\uFF1A-\\uFF5E"
                                             "\\u2018-\\u201F\\u3000-\\u3002]+",
                                             "\\s+$",
                                             kDeepseekCjk,
                                             "\\p{N}+"};
constexpr std::string_view kDeepseekCoder[] = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", kDeepseekCjk, "\\p{N}"};
constexpr std::string_view kO200k[] = {QUERN_CASED_WORDS(QUERN_CONTRACTION "?", "\\p{N}{1,3}")};
constexpr std::string_view kTekken[] = {QUERN_CASED_WORDS("", "\\p{N}")};
constexpr std::string_view kYoutu[] = {
    "[\\uAC00-\\uD7A3\\u3131-\\u318E]+"
    "|[\\uFF01\\u2026\\u201C\\u201D\\u2018\\u2019\\u2014\\uFF1A\\uFF1B\\uFF0C"
    "\\u3001-\\u303F\\uFE30-\\uFE4F]+|[\\u3105-\\u312F]+"
    "|[\\u4E00-\\u9FA5\\u3040-\\u309F\\u30A0-\\u30FF]+",
    QUERN_CASED_WORDS(QUERN_CONTRACTION "?", "\\p{N}")};
constexpr std::string_view kBloom[] = {kBloomPattern};
constexpr std::string_view kViking[] = {kBloomPattern, "\\p{N}"};
constexpr std::string_view kCl100k[] = {
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s"};
constexpr std::string_view kBailing[] = {
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"};
constexpr std::string_view kSeedCoder[] = {QUERN_CONTRACTION
                                           "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
                                           "| ?[^\\s\\p{L}\\p{N}\\r\\n]+" QUERN_TAIL};
// Kimi: runs of Han characters stand alone, words are made of the others.
#define QUERN_NOT_HAN(letters) "[" letters "&&[^\\p{Han}]]"
constexpr std::string_view kKimi[] = {
    "\\p{Han}+|[^\\r\\n\\p{L}\\p{N}]?" QUERN_NOT_HAN("\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}") "*" QUERN_NOT_HAN(
        "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}") "+" QUERN_CONTRACTION
                                       "?|[^\\r\\n\\p{L}\\p{N}]?" QUERN_NOT_HAN(
                                           "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{"
                                           "M}") "+" QUERN_NOT_HAN("\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}") "*" QUERN_CONTRACTION
                                                                                                  "?|\\p{N}{1,3}| "
                                                                                                  "?[^\\s\\p{L}\\p{N}]+"
                                                                                                  "[\\r\\n]"
                                                                                                  "*" QUERN_TAIL};
// BPE over text whose blanks are escaped: only line ends part it.
constexpr std::string_view kLines[] = {"[^\\n]+|\\n+"};

constexpr PreRule kRules[] = {
    {.names = "default", .patterns = kDefault},
    {.names =
         "gpt-2 gpt2 r50k_base p50k_base mpt olmo jais phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 "
         "mellum modern-bert exaone4 trillion granite-docling",
     .patterns = kGpt2},
    {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", .patterns = kDigitsApart},
    {.names = "falcon", .patterns = kFalcon},
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
     .patterns = kLlama3,
     .ignore_merges = true,
     .adds_bos = true},
    {.names = "glm4 chatglm-bpe", .patterns = kLlama3, .ignore_merges = true},
    {.names = "dbrx smaug-bpe", .patterns = kLlama3},
    {.names = "qwen2 qwen deepseek-r1-qwen stablelm2 hunyuan megrez kormo solar-open grok-2", .patterns = kQwen2},
    {.names = "qwen35", .patterns = kQwen35},
    {.names = "laguna", .patterns = kLaguna},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm hy_v4", .patterns = kDeepseekV3},
    {.names = "deepseek-llm", .patterns = kDeepseekLlm},
    {.names = "deepseek-coder", .patterns = kDeepseekCoder},
    {.names = "gpt-4o o200k o200k_base o200k_harmony llama4 kanana2 minimax-m2", .patterns = kO200k},
    {.names = "tekken", .patterns = kTekken, .ignore_merges = true, .adds_bos = true},
    {.names = "youtu", .patterns = kYoutu, .ignore_merges = true},
    {.names = "bloom poro-chat gpt3-finnish", .patterns = kBloom},
    {.names = "viking", .patterns = kViking},
    {.names = "cl100k_base", .patterns = kCl100k},
    {.names = "bailingmoe bailingmoe2 llada-moe", .patterns = kBailing},
    {.names = "seed-coder", .patterns = kSeedCoder},
    {.names = "kimi-k2", .patterns = kKimi},
    {.names = "gemma4 sarvam-moe", .patterns = kLines},
};

bool lists(std::string_view names, std::string_view name) {
  while (!names.empty()) {
    const size_t blank = names.find(' ');
    if (names.substr(0, blank) == name) return true;
    names = blank == names.npos ? std::string_view() : names.substr(blank + 1);
  }
  return false;
}

}  // namespace

std::span<const PreRule> pre_rules() { return kRules; }

const PreRule* find_pre_rule(std::string_view name) {
  for (const PreRule& rule : kRules)
    if (lists(rule.names, name)) return &rule;
  return nullptr;
}

}  // namespace quern
