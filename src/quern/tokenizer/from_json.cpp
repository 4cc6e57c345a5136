// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <utility>

#include "quern/base/json.h"
#include "quern/io/mapped_file.h"
#include "quern/tokenizer/bpe_vocab.h"
#include "quern/tokenizer/pipeline.h"
#include "quern/tokenizer/tokenizer_json.h"

namespace quern {
namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";

Error bad(std::string_view what) { return make_error(ErrorCode::corrupt_data, "{}", what); }

const std::string* text_of(const Json* json) {
  return json != nullptr && json->is_string() ? &json->string() : nullptr;
}
const std::string* text_of(const Json& json, std::string_view key) { return text_of(json.find(key)); }
bool flag_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr && value->is_bool() && value->boolean();
}

Result<TokenId> id_of(const Json* json, std::string_view token) {
  if (json == nullptr || !json->is_integer() || json->integer() < 0 ||
      json->integer() > std::numeric_limits<TokenId>::max() - 1)
    return make_error(ErrorCode::corrupt_data, "token '{}': expected an id, found {}", token.substr(0, 40),
                      json != nullptr ? json->dump().substr(0, 40) : "none");
  return static_cast<TokenId>(json->integer());
}

/// What a decoder does with the pieces, as far as it changes single tokens.
struct Decoding {
  bool byte_level = false, blanks_escaped = false, bytes_named = false, strips_first = false;
};

void read_decoder(const Json* json, Decoding& out, int depth) {
  const std::string* type = json != nullptr ? text_of(*json, "type") : nullptr;
  if (type == nullptr || depth > 16) return;
  if (*type == "ByteLevel") out.byte_level = true;
  if (*type == "ByteFallback") out.bytes_named = true;
  if (*type == "Metaspace") {
    out.blanks_escaped = true;
    const std::string* scheme = text_of(*json, "prepend_scheme");
    const Json* old = json->find("add_prefix_space");
    out.strips_first = scheme != nullptr ? *scheme != "never" : old == nullptr || !old->is_bool() || old->boolean();
  }
  if (*type == "Replace") {
    const Json* pattern = json->find("pattern");
    const std::string* from = pattern != nullptr ? text_of(*pattern, "String") : nullptr;
    const std::string* to = text_of(*json, "content");
    if (from != nullptr && to != nullptr && *from == kBlank && *to == " ") out.blanks_escaped = true;
  }
  if (*type == "Strip") {
    const std::string* content = text_of(*json, "content");
    const Json* start = json->find("start");
    if (content != nullptr && *content == " " && start != nullptr && start->is_integer() && start->integer() > 0)
      out.strips_first = true;
  }
  const Json* steps = json->find("decoders");
  if (steps != nullptr && steps->is_array())
    for (const Json& step : steps->array()) read_decoder(&step, out, depth + 1);
}

/// BOS and EOS that a post-processor puts around one text.
struct Frame {
  std::optional<std::string> before, after;
};

void read_post_processor(const Json* json, Frame& out, int depth) {
  if (json == nullptr || !json->is_object() || depth > 16) return;
  if (const Json* steps = json->find("processors"); steps != nullptr && steps->is_array())
    for (const Json& step : steps->array()) read_post_processor(&step, out, depth + 1);
  const Json* single = json->find("single");
  if (single == nullptr || !single->is_array()) return;
  bool text_seen = false;
  for (const Json& item : single->array()) {
    if (item.find("Sequence") != nullptr) text_seen = true;
    const Json* special = item.find("SpecialToken");
    const std::string* id = special != nullptr ? text_of(*special, "id") : nullptr;
    if (id != nullptr) (text_seen ? out.after : out.before) = *id;
  }
}

/// A token's text as tokenizer_config.json writes it: a string or an object with its content.
std::optional<std::string> config_token(const Json* config, std::string_view key) {
  const Json* value = config != nullptr ? config->find(key) : nullptr;
  if (value != nullptr && value->is_object()) value = value->find("content");
  const std::string* text = text_of(value);
  return text != nullptr ? std::optional(*text) : std::nullopt;
}

class JsonReader {
 public:
  JsonReader(const Json& document, const Json* config) : document_(document), config_(config) {}

  Result<TokenizerParts> run() {
    model_ = document_.find("model");
    if (model_ == nullptr || !model_->is_object()) return bad("model: missing");
    QUERN_TRY_STATUS(find_model_type());
    QUERN_TRY(parts_.normalizer, Normalizer::from_json(document_.find("normalizer")));
    QUERN_TRY(parts_.pretokenizer, Pretokenizer::from_json(document_.find("pre_tokenizer")));
    read_decoder(document_.find("decoder"), decoding_, 0);
    QUERN_TRY_STATUS(read_vocab());
    settle();
    QUERN_TRY_STATUS(unigram_ ? make_unigram() : make_bpe());
    parts_.strips_first_space = decoding_.strips_first;
    return std::move(parts_);
  }

 private:
  Status find_model_type() {
    const std::string* type = text_of(*model_, "type");
    const Json* vocab = model_->find("vocab");
    if (vocab == nullptr) return bad("model.vocab: missing");
    // Old files leave the type out.
    const std::string name = type != nullptr                     ? *type
                             : vocab->is_array()                 ? "Unigram"
                             : model_->find("merges") != nullptr ? "BPE"
                                                                 : "";
    if (name != "BPE" && name != "Unigram")
      return make_error(ErrorCode::unsupported, "model.type: '{}' is not built here", name);
    unigram_ = name == "Unigram";
    if (unigram_ ? !vocab->is_array() : !vocab->is_object()) return bad("model.vocab: expected tokens");
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (const std::string* affix = text_of(*model_, key); affix != nullptr && !affix->empty())
        return make_error(ErrorCode::unsupported, "model.{}: '{}' is not built here", key, affix->substr(0, 40));
    return {};
  }

  Status read_vocab() {
    const Json& vocab = *model_->find("vocab");
    const Json* added = document_.find("added_tokens");
    static const Json::Array kNone;
    const Json::Array& added_list = added != nullptr && added->is_array() ? added->array() : kNone;
    int64_t highest = -1;
    const auto n = static_cast<int64_t>(unigram_ ? vocab.array().size() : vocab.object().size());
    if (unigram_) {
      highest = n - 1;
    } else {
      for (const auto& [text, id] : vocab.object()) {
        QUERN_TRY(const TokenId number, id_of(&id, text));
        highest = std::max<int64_t>(highest, number);
      }
    }
    for (const Json& token : added_list) {
      const std::string* content = text_of(token, "content");
      if (content == nullptr) return bad("added_tokens: expected a content");
      QUERN_TRY(const TokenId number, id_of(token.find("id"), *content));
      highest = std::max<int64_t>(highest, number);
    }
    QUERN_TRY(Vocab made, Vocab::make(n + static_cast<int64_t>(added_list.size()), highest));
    parts_.vocab = std::make_unique<Vocab>(std::move(made));
    QUERN_TRY_STATUS(unigram_ ? fill_unigram(vocab.array()) : fill_bpe(vocab.object()));
    for (const Json& token : added_list) add_token(token);
    return {};
  }

  Status fill_bpe(const Json::Object& vocab) {
    for (const auto& [text, id] : vocab) {
      Token& t = (*parts_.vocab)[static_cast<TokenId>(id.integer())];
      if (t.type != TokenType::undefined)
        return make_error(ErrorCode::corrupt_data, "model.vocab: id {} stands twice, '{}' and '{}'", id.integer(),
                          t.text.substr(0, 40), text.substr(0, 40));
      t.text = text;
      t.type = ordinary_type(text);
    }
    return {};
  }

  Status fill_unigram(const Json::Array& vocab) {
    TokenId id = 0;
    for (const Json& entry : vocab) {
      if (!entry.is_array() || entry.array().size() != 2 || !entry.array()[0].is_string() ||
          !entry.array()[1].is_number())
        return make_error(ErrorCode::corrupt_data, "model.vocab[{}]: expected [text, score]", id);
      Token& t = (*parts_.vocab)[id++];
      t.text = entry.array()[0].string();
      t.score = usable_score(entry.array()[1].number());
      t.type = ordinary_type(t.text);
    }
    return {};
  }

  TokenType ordinary_type(std::string_view text) const {
    const bool named = flag_of(*model_, "byte_fallback") || decoding_.bytes_named;
    return named && byte_of_name(text) ? TokenType::byte : TokenType::normal;
  }

  void add_token(const Json& json) {
    Token& t = (*parts_.vocab)[static_cast<TokenId>(json.find("id")->integer())];
    t.text = json.find("content")->string();
    t.type = flag_of(json, "special") ? TokenType::control : TokenType::user_defined;
    t.strip_left = flag_of(json, "lstrip");
    t.strip_right = flag_of(json, "rstrip");
    t.single_word = flag_of(json, "single_word");
    t.after_normalizer = flag_of(json, "normalized");
  }

  void settle() {
    Frame frame;
    read_post_processor(document_.find("post_processor"), frame, 0);
    const TextIndex by_text = index_by_text(*parts_.vocab);
    const auto named = [&](const std::optional<std::string>& text) {
      return text ? by_text.find(*text) : std::nullopt;
    };
    SpecialIds ids;
    ids.bos = named(config_token(config_, "bos_token"));
    ids.eos = named(config_token(config_, "eos_token"));
    if (!ids.bos) ids.bos = named(frame.before);
    if (!ids.eos) ids.eos = named(frame.after);
    if (const std::string* unknown = text_of(*model_, "unk_token")) ids.unknown = by_text.find(*unknown);
    if (const Json* unknown = model_->find("unk_id");
        unknown != nullptr && unknown->is_integer() && parts_.vocab->has(static_cast<TokenId>(unknown->integer())))
      ids.unknown = static_cast<TokenId>(unknown->integer());
    parts_.adds_bos = config_flag("add_bos_token").value_or(frame.before.has_value());
    parts_.adds_eos = config_flag("add_eos_token").value_or(frame.after.has_value());
    parts_.vocab->settle(ids, EndTexts::added_tokens);
    byte_level_ = !unigram_ && (parts_.pretokenizer.byte_level() || decoding_.byte_level);
    if (byte_level_)
      set_byte_level_bytes(*parts_.vocab);
    else
      set_character_bytes(*parts_.vocab, decoding_.blanks_escaped ? Blanks::escaped : Blanks::plain);
    parts_.vocab->index(byte_level_ ? LookUp::bytes : LookUp::text);
  }

  std::optional<bool> config_flag(std::string_view key) const {
    const Json* value = config_ != nullptr ? config_->find(key) : nullptr;
    return value != nullptr && value->is_bool() ? std::optional(value->boolean()) : std::nullopt;
  }

  Status make_bpe() {
    const TextIndex by_text = index_by_text(*parts_.vocab);
    const Json* lines = model_->find("merges");
    if (lines == nullptr || !lines->is_array()) return bad("model.merges: missing");
    MergeTable merges(lines->array().size());
    size_t rank = 0;
    for (const Json& line : lines->array()) {
      Status status;
      if (line.is_string()) {
        status = add_merge(merges, by_text, line.string(), rank);
      } else if (line.is_array() && line.array().size() == 2 && line.array()[0].is_string() &&
                 line.array()[1].is_string()) {
        status = add_merge(merges, by_text, line.array()[0].string(), line.array()[1].string(), rank);
      } else {
        return make_error(ErrorCode::corrupt_data, "model.merges[{}]: expected two tokens", rank);
      }
      if (!status) return std::move(status).error().in("model.merges");
      ++rank;
    }
    const bool ignore_merges = flag_of(*model_, "ignore_merges");
    if (byte_level_) {
      parts_.kind = "byte-level BPE";
      parts_.encoder = std::make_unique<ByteBpe>(
          *parts_.vocab, byte_level_ids(by_text), std::move(merges),
          ignore_merges ? ByteBpe::WholePiece::look_up_first : ByteBpe::WholePiece::merge, parts_.vocab->unknown());
    } else {
      parts_.kind = "BPE";
      const CharBpe::Options options{.ignore_merges = ignore_merges,
                                     .byte_fallback = flag_of(*model_, "byte_fallback"),
                                     .fuse_unknown = flag_of(*model_, "fuse_unk")};
      parts_.encoder = std::make_unique<CharBpe>(*parts_.vocab, std::move(merges), std::vector<std::string>(), options);
    }
    return {};
  }

  Status make_unigram() {
    parts_.kind = "unigram";
    parts_.encoder = std::make_unique<Unigram>(
        *parts_.vocab, Unigram::Options{flag_of(*model_, "byte_fallback"), Unigram::Sum::in_double});
    return {};
  }

  const Json& document_;
  const Json* config_;
  const Json* model_ = nullptr;
  bool unigram_ = false, byte_level_ = false;
  Decoding decoding_;
  TokenizerParts parts_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> tokenizer_from_json_text(std::string_view text, const Json* config) {
  QUERN_TRY(const Json document, Json::parse(text));
  QUERN_TRY(TokenizerParts parts, JsonReader(document, config).run());
  return std::unique_ptr<Tokenizer>(std::make_unique<PipelineTokenizer>(std::move(parts)));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_json(const std::filesystem::path& tokenizer_json,
                                                        const std::optional<std::filesystem::path>& config) {
  QUERN_TRY(const std::string text, read_text_file(tokenizer_json));
  Json settings;
  if (config) {
    QUERN_TRY(const std::string config_text, read_text_file(*config));
    auto parsed = Json::parse(config_text);
    if (!parsed) return std::move(parsed).error().in(config->string());
    settings = *std::move(parsed);
  }
  auto tokenizer = tokenizer_from_json_text(text, config ? &settings : nullptr);
  if (!tokenizer) return std::move(tokenizer).error().in(tokenizer_json.string());
  return tokenizer;
}

}  // namespace quern
