// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <utility>

#include "quern/tokenizer/bpe_vocab.h"
#include "quern/tokenizer/pipeline.h"
#include "quern/tokenizer/pre_rules.h"

namespace quern {
namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";

/// Keys below tokenizer.ggml. of one file.
class Keys {
 public:
  explicit Keys(const gguf::File& file) : file_(file) {}

  static std::string full(std::string_view name) { return std::string("tokenizer.ggml.") += name; }
  const gguf::Value* find(std::string_view name) const { return file_.find(full(name)); }
  bool flag(std::string_view name, bool otherwise) const {
    const auto* v = find(name);
    return v != nullptr && !v->is_array() ? v->boolean().value_or(otherwise) : otherwise;
  }
  std::optional<TokenId> id(std::string_view name) const {
    const auto* v = find(name);
    const auto i = v != nullptr && !v->is_array() ? v->integer() : std::nullopt;
    // Ids beyond the vocabulary are dropped later; what does not fit into an id is none.
    return i && *i >= 0 && *i <= std::numeric_limits<TokenId>::max() ? std::optional(static_cast<TokenId>(*i))
                                                                     : std::nullopt;
  }
  Result<const gguf::Value*> array(std::string_view name, int64_t at_least) const {
    const auto* v = find(name);
    if (v == nullptr) return make_error(ErrorCode::corrupt_data, "{}: missing", full(name));
    if (!v->is_array())
      return make_error(ErrorCode::corrupt_data, "{}: expected an array, found {}", full(name),
                        gguf::value_type_name(v->type()));
    if (v->size() < at_least)
      return make_error(ErrorCode::corrupt_data, "{}: expected {} entries, found {}", full(name), at_least, v->size());
    return v;
  }
  const gguf::File& file() const { return file_; }

 private:
  const gguf::File& file_;
};

Error not_of_type(std::string_view name, int64_t index, std::string_view expected) {
  return make_error(ErrorCode::corrupt_data, "{}[{}]: expected {}", Keys::full(name), index, expected);
}

enum class Scores : uint8_t { needed, ignored };

Result<std::unique_ptr<Vocab>> read_tokens(const Keys& keys, Scores scores) {
  QUERN_TRY(const gguf::Value* tokens, keys.array("tokens", 1));
  const int64_t n = tokens->size();
  QUERN_TRY(Vocab made, Vocab::make(n, n - 1));
  auto vocab = std::make_unique<Vocab>(std::move(made));
  const gguf::Value* types = nullptr;
  if (keys.find("token_type") != nullptr) {
    QUERN_TRY(types, keys.array("token_type", n));
  }
  const gguf::Value* score = nullptr;
  if (scores == Scores::needed) {
    QUERN_TRY(score, keys.array("scores", n));
  }
  for (int64_t i = 0; i < n; ++i) {
    Token& t = (*vocab)[static_cast<TokenId>(i)];
    const auto text = tokens->string(i);
    if (!text) return not_of_type("tokens", i, "text");
    t.text = *text;
    const auto type = types != nullptr ? types->integer(i) : std::optional<int64_t>(1);
    if (!type) return not_of_type("token_type", i, "a whole number");
    t.type = token_type(*type);
    if (score == nullptr) continue;
    const auto s = score->number(i);
    if (!s) return not_of_type("scores", i, "a number");
    t.score = usable_score(*s);
  }
  return vocab;
}

SpecialIds special_ids(const Keys& keys, SpecialIds defaults) {
  const auto or_default = [&](std::string_view name, std::optional<TokenId>& id) {
    if (const auto given = keys.id(name)) id = given;
  };
  or_default("bos_token_id", defaults.bos);
  or_default("eos_token_id", defaults.eos);
  or_default("unknown_token_id", defaults.unknown);
  for (const std::string_view name :
       {"eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"})
    if (const auto id = keys.id(name)) defaults.ends.push_back(*id);
  return defaults;
}

/// GGUF has no field for white space that a token swallows; libllama knows these by the model's name.
void set_phi3_stripping(const gguf::File& file, Vocab& vocab) {
  const gguf::Value* value = file.find("general.name");
  std::string name(value != nullptr && !value->is_array() ? value->string().value_or("") : "");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name.find("phi-3") == name.npos && name.find("phi3") == name.npos) return;
  for (TokenId id = 0; id < vocab.size(); ++id) {
    Token& t = vocab[id];
    const bool keeps = t.text == "<unk>" || t.text == "<s>" || t.text == "<|endoftext|>";
    if (t.is_added() && !keeps) t.strip_right = true;
  }
}

Result<MergeTable> read_merges(const Keys& keys, const TextIndex& by_text) {
  QUERN_TRY(const gguf::Value* merges, keys.array("merges", 0));
  MergeTable table(static_cast<size_t>(merges->size()));
  for (int64_t i = 0; i < merges->size(); ++i) {
    const auto line = merges->string(i);
    if (!line) return not_of_type("merges", i, "text");
    if (auto status = add_merge(table, by_text, *line, static_cast<size_t>(i)); !status)
      return std::move(status).error().in("tokenizer.ggml.merges");
  }
  return table;
}

using Parts = Result<TokenizerParts>;

/// tokenizer.ggml.model = gpt2: byte-level BPE.
Parts byte_level_parts(const Keys& keys) {
  std::string_view pre = "default";
  if (const auto* value = keys.find("pre")) {
    const auto name = value->is_array() ? std::nullopt : value->string();
    if (!name) return make_error(ErrorCode::corrupt_data, "tokenizer.ggml.pre: expected a text");
    pre = *name;
  }
  const PreRule* rule = find_pre_rule(pre);
  if (rule == nullptr)
    return make_error(ErrorCode::unsupported, "tokenizer.ggml.pre: split rule '{}' is not known", pre);

  TokenizerParts parts;
  QUERN_TRY(parts.vocab, read_tokens(keys, Scores::ignored));
  Vocab& vocab = *parts.vocab;
  vocab.settle(special_ids(keys, {}), EndTexts::all_tokens);
  set_byte_level_bytes(vocab);
  vocab.index(LookUp::bytes);
  const TextIndex by_text = index_by_text(vocab);
  QUERN_TRY(MergeTable merges, read_merges(keys, by_text));
  QUERN_TRY(parts.pretokenizer, Pretokenizer::from_patterns(rule->patterns));
  parts.encoder =
      std::make_unique<ByteBpe>(vocab, byte_level_ids(by_text), std::move(merges),
                                rule->ignore_merges ? ByteBpe::WholePiece::look_up_first : ByteBpe::WholePiece::merge);
  parts.kind = "byte-level BPE";
  parts.adds_bos = keys.flag("add_bos_token", rule->adds_bos);
  parts.adds_eos = keys.flag("add_eos_token", false);
  return parts;
}

/// llama: SentencePiece BPE, merged by score.
Parts sentencepiece_parts(const Keys& keys) {
  TokenizerParts parts;
  QUERN_TRY(parts.vocab, read_tokens(keys, Scores::needed));
  Vocab& vocab = *parts.vocab;
  vocab.settle(special_ids(keys, {.bos = 1, .eos = 2, .unknown = 0, .ends = {}}), EndTexts::all_tokens);
  set_phi3_stripping(keys.file(), vocab);
  set_character_bytes(vocab, Blanks::escaped);
  vocab.index(LookUp::text);
  ScoreMerges merges = merges_by_score(vocab);
  parts.encoder = std::make_unique<CharBpe>(vocab, std::move(merges.merges), std::move(merges.extra_characters),
                                            CharBpe::Options{.split_unused = true});
  const bool prefix = keys.flag("add_space_prefix", true);
  if (prefix) parts.normalizer.add_prepend(" ");
  parts.normalizer.add_escape(std::string(kBlank), Normalizer::Prefix::never);
  parts.kind = "SentencePiece BPE";
  parts.adds_bos = keys.flag("add_bos_token", true);
  parts.adds_eos = keys.flag("add_eos_token", false);
  parts.strips_first_space = prefix;
  return parts;
}

/// t5: unigram.
Parts unigram_parts(const Keys& keys) {
  TokenizerParts parts;
  QUERN_TRY(parts.vocab, read_tokens(keys, Scores::needed));
  Vocab& vocab = *parts.vocab;
  vocab.settle(special_ids(keys, {.bos = {}, .eos = 1, .unknown = 2, .ends = {}}), EndTexts::all_tokens);
  set_character_bytes(vocab, Blanks::escaped);
  vocab.index(LookUp::text);
  if (keys.find("precompiled_charsmap") != nullptr) {
    QUERN_TRY(const gguf::Value* array, keys.array("precompiled_charsmap", 0));
    std::string bytes;
    for (int64_t i = 0; i < array->size(); ++i) {
      const auto byte = array->integer(i);
      if (!byte || *byte < -128 || *byte > 255) return not_of_type("precompiled_charsmap", i, "a byte");
      bytes.push_back(static_cast<char>(*byte));
    }
    if (!bytes.empty()) {
      QUERN_TRY(Charsmap map, Charsmap::parse(bytes));
      parts.normalizer.add_charsmap(std::move(map));
    }
  }
  const bool squeeze = keys.flag("remove_extra_whitespaces", true);
  if (squeeze) parts.normalizer.add_squeeze_spaces();
  const bool prefix = keys.flag("add_space_prefix", true);
  if (prefix) parts.normalizer.add_prepend(" ");
  parts.normalizer.add_escape(std::string(kBlank), Normalizer::Prefix::never);
  if (squeeze) parts.normalizer.add_trim_end(std::string(kBlank));
  parts.encoder = std::make_unique<Unigram>(vocab, Unigram::Options{});
  parts.kind = "unigram";
  parts.adds_bos = keys.flag("add_bos_token", false);
  parts.adds_eos = keys.flag("add_eos_token", true);
  parts.strips_first_space = prefix;
  return parts;
}

/// gemma4: BPE by merges over text with escaped blanks, parted at line ends only.
Parts escaped_bpe_parts(const Keys& keys) {
  TokenizerParts parts;
  QUERN_TRY(parts.vocab, read_tokens(keys, Scores::ignored));
  Vocab& vocab = *parts.vocab;
  vocab.settle(special_ids(keys, {}), EndTexts::all_tokens);
  set_character_bytes(vocab, Blanks::escaped);
  vocab.index(LookUp::text);
  QUERN_TRY(MergeTable merges, read_merges(keys, index_by_text(vocab)));
  QUERN_TRY(parts.pretokenizer, Pretokenizer::from_patterns(find_pre_rule("gemma4")->patterns));
  parts.encoder = std::make_unique<CharBpe>(vocab, std::move(merges), std::vector<std::string>(), CharBpe::Options{});
  parts.normalizer.add_escape(std::string(kBlank), Normalizer::Prefix::never);
  parts.kind = "BPE";
  parts.adds_bos = true;  // whatever the file says: the makers' code always does
  parts.adds_eos = keys.flag("add_eos_token", false);
  return parts;
}

Parts read_parts(const gguf::File& file) {
  const Keys keys(file);
  QUERN_TRY(const std::string_view model, file.string("tokenizer.ggml.model"));
  if (model == "gpt2") return byte_level_parts(keys);
  if (model == "llama") return sentencepiece_parts(keys);
  if (model == "t5") return unigram_parts(keys);
  if (model == "gemma4") return escaped_bpe_parts(keys);
  return make_error(ErrorCode::unsupported,
                    "tokenizer.ggml.model: '{}' is not built here; known are gpt2, llama, t5, gemma4", model);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_gguf(const gguf::File& file) {
  QUERN_TRY(TokenizerParts parts, read_parts(file));
  return std::unique_ptr<Tokenizer>(std::make_unique<PipelineTokenizer>(std::move(parts)));
}

}  // namespace quern
