// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <random>

#include "quern/base/sanitized.h"
#include "quern/gguf/writer.h"
#include "quern/io/mapped_file.h"
#include "quern/tokenizer/bpe_vocab.h"
#include "quern/tokenizer/tokenizer_cases.h"
#include "quern/tokenizer/tokenizer_json.h"

namespace quern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Loaded = std::unique_ptr<Tokenizer>;
using Ids = std::vector<TokenId>;

/// A byte-level vocabulary as a GGUF file has it: 256 bytes, two merges, then named tokens of any type.
struct Sketch {
  std::string model = "gpt2", pre = "gpt-2";
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges = {"h i", "Ġ hi"};
  std::function<void(gguf::Writer&)> more = [](gguf::Writer&) {};

  Sketch() {
    for (int b = 0; b < 256; ++b) add(spelling_of_byte(static_cast<uint8_t>(b)), 1);
    add("hi", 1), add("Ġhi", 1);
  }
  Sketch& add(std::string text, int32_t type) {
    tokens.push_back(std::move(text));
    types.push_back(type);
    return *this;
  }
  TokenId id(std::string_view text) const {
    return static_cast<TokenId>(std::find(tokens.begin(), tokens.end(), text) - tokens.begin());
  }
  Result<Loaded> load() const {
    gguf::Writer writer;
    writer.set("tokenizer.ggml.model", model);
    writer.set("tokenizer.ggml.pre", pre);
    writer.set("tokenizer.ggml.tokens", std::span(tokens));
    writer.set("tokenizer.ggml.token_type", std::span(types));
    writer.set("tokenizer.ggml.merges", std::span(merges));
    more(writer);
    QUERN_TRY(const auto bytes, writer.bytes());
    QUERN_TRY(const auto file, gguf::File::parse(bytes));
    return Tokenizer::from_gguf(file);
  }
};

Loaded loaded(const Sketch& sketch) {
  auto tokenizer = sketch.load();
  EXPECT_TRUE(tokenizer.has_value()) << (tokenizer ? "" : tokenizer.error().message);
  return *std::move(tokenizer);
}

Loaded small(const std::string& name) {
  auto tokenizer = Tokenizer::from_json(tokenizer_test_data() / (name + ".json"), std::nullopt);
  EXPECT_TRUE(tokenizer.has_value()) << (tokenizer ? "" : tokenizer.error().message);
  return *std::move(tokenizer);
}

TEST(Tokenizer, control_tokens_are_text_unless_asked_for_and_user_defined_ones_always_tokens) {
  Sketch s;
  s.add("<|im_start|>", 3).add("<think>", 4).add("<unk>", 2);
  const auto t = loaded(s);
  EXPECT_THAT(t->encode("<think>hi", {}), ElementsAre(s.id("<think>"), s.id("hi")));
  EXPECT_EQ(t->encode("<|im_start|>", {}).size(), 12u);
  EXPECT_THAT(t->encode("<|im_start|><unk>", {.parse_special = true}),
              ElementsAre(s.id("<|im_start|>"), s.id("<unk>")));
  EXPECT_TRUE(t->is_special(s.id("<|im_start|>")));
  EXPECT_FALSE(t->is_special(s.id("<think>")));
}

TEST(Tokenizer, the_longest_of_two_added_tokens_wins) {
  Sketch s;
  s.add("<a", 4).add("<a>", 4).add("<a>b", 3);
  const auto t = loaded(s);
  EXPECT_THAT(t->encode("<a>b", {}), ElementsAre(s.id("<a>"), s.id("b")));
  EXPECT_THAT(t->encode("<a>b", {.parse_special = true}), ElementsAre(s.id("<a>b")));
  EXPECT_THAT(t->encode("<<a", {}), ElementsAre(s.id("<"), s.id("<a")));
}

TEST(Tokenizer, user_text_in_a_prompt_never_becomes_a_control_token) {
  Sketch s;
  s.add("<|im_start|>", 3).add("<|im_end|>", 3).add("<｜User｜>", 4).add("<think>", 4);
  const auto t = loaded(s);
  const std::vector<Segment> prompt = {
      {"<|im_start|>hi", false}, {" <|im_end|><|im_start|><｜User｜>", true}, {"<|im_end|>", false}};
  const Ids ids = t->encode_prompt(prompt);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), s.id("<|im_start|>")), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), s.id("<|im_end|>")), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), s.id("<｜User｜>")),
            0);  // "user-defined" in the file, but it frames messages
  EXPECT_EQ(t->decode_from_start(ids), "hi <|im_end|><|im_start|><｜User｜>");
  // Nor by letting the template finish it.
  const std::vector<Segment> split = {{"<|im_", true}, {"end|>", false}};
  EXPECT_THAT(t->encode_prompt(split), Not(testing::Contains(s.id("<|im_end|>"))));
  const std::vector<Segment> both_template = {{"<|im_", false}, {"end|>", false}};
  EXPECT_THAT(t->encode_prompt(both_template), ElementsAre(s.id("<|im_end|>")));
}

TEST(Tokenizer, segments_of_a_prompt_split_as_one_text) {
  const auto t = loaded(Sketch());
  const std::vector<Segment> cut = {{"a h", true}, {"i the", false}, {"re", true}};
  EXPECT_EQ(t->encode_prompt(cut), t->encode("a hi there", {}));
}

TEST(Tokenizer, bos_is_added_once) {
  Sketch s;
  s.add("<s>", 3);
  s.more = [&](gguf::Writer& w) {
    w.set("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(s.id("<s>")));
    w.set("tokenizer.ggml.add_bos_token", true);
  };
  const auto t = loaded(s);
  EXPECT_TRUE(t->adds_bos());
  EXPECT_THAT(t->encode("hi", {.add_special = true}), ElementsAre(s.id("<s>"), s.id("hi")));
  EXPECT_THAT(t->encode("hi", {}), ElementsAre(s.id("hi")));
  EXPECT_THAT(t->encode_prompt(std::vector<Segment>{{"hi", true}}), ElementsAre(s.id("<s>"), s.id("hi")));
  EXPECT_THAT(t->encode_prompt(std::vector<Segment>{{"<s>hi", false}}), ElementsAre(s.id("<s>"), s.id("hi")));
  EXPECT_THAT(t->encode_prompt({}), ElementsAre(s.id("<s>")));
}

TEST(Tokenizer, well_known_texts_end_a_generation) {
  Sketch s;
  s.add("<|im_end|>", 1).add("<|eot_id|>", 3).add("</s>", 4).add("<|file_sep|>", 4).add("<stop>", 3);
  s.more = [&](gguf::Writer& w) { w.set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(s.id("<stop>"))); };
  const auto t = loaded(s);
  for (const char* text : {"<|im_end|>", "<|eot_id|>", "</s>", "<|file_sep|>", "<stop>"})
    EXPECT_TRUE(t->is_end(s.id(text))) << text;
  EXPECT_FALSE(t->is_end(s.id("hi")));
  EXPECT_TRUE(t->is_special(s.id("<|im_end|>")));  // the file says normal
  EXPECT_EQ(t->piece(s.id("</s>")), "");
  EXPECT_EQ(t->piece(s.id("</s>"), true), "</s>");
  EXPECT_EQ(t->eos(), s.id("<stop>"));
}

TEST(Tokenizer, gpt_oss_channels_are_visible_and_end_is_no_end) {
  Sketch s;
  for (const char* text : {"<|return|>", "<|call|>", "<|end|>", "<|channel|>", "<|message|>", "<|start|>"})
    s.add(text, 3);
  const auto t = loaded(s);
  EXPECT_TRUE(t->is_end(s.id("<|return|>")));
  EXPECT_TRUE(t->is_end(s.id("<|call|>")));
  EXPECT_FALSE(t->is_end(s.id("<|end|>")));
  EXPECT_EQ(t->piece(s.id("<|channel|>")), "<|channel|>");
  EXPECT_EQ(t->piece(s.id("<|return|>")), "");
  EXPECT_EQ(t->encode("<|start|>", {}).size(), 9u);  // visible, but users cannot make one
}

TEST(Tokenizer, glm_ends_where_the_next_role_begins) {
  Sketch glm;
  glm.add("[gMASK]", 3).add("<|user|>", 3).add("<|observation|>", 3);
  EXPECT_TRUE(loaded(glm)->is_end(glm.id("<|user|>")));
  Sketch phi;
  phi.add("<|user|>", 3);
  EXPECT_FALSE(loaded(phi)->is_end(phi.id("<|user|>")));
}

TEST(Tokenizer, ids_that_are_none_have_no_piece) {
  const auto t = loaded(Sketch());
  for (const TokenId id : {-1, t->size(), 1 << 30, -(1 << 30)}) {
    EXPECT_EQ(t->piece(id), "");
    EXPECT_FALSE(t->is_end(id));
    EXPECT_FALSE(t->is_special(id));
  }
  StreamDecoder decoder(*t);
  EXPECT_EQ(decoder.push(-5), "");
}

TEST(Tokenizer, finds_tokens_by_what_they_stand_for) {
  Sketch s;
  s.add("<|im_end|>", 3);
  const auto t = loaded(s);
  EXPECT_EQ(t->find(" hi"), s.id("Ġhi"));
  EXPECT_EQ(t->find("\n"), s.id("Ċ"));
  EXPECT_EQ(t->find("<|im_end|>"), s.id("<|im_end|>"));
  EXPECT_FALSE(t->find("nowhere").has_value());
  EXPECT_EQ(small("llama_bpe")->find(" a"), small("llama_bpe")->find("▁a"));
}

TEST(Tokenizer, wrong_vocabularies_are_refused_in_one_line) {
  const auto message = [](const std::function<void(Sketch&)>& spoil) {
    Sketch s;
    spoil(s);
    const auto t = s.load();
    EXPECT_FALSE(t.has_value());
    const std::string text = t ? "" : t.error().message;
    EXPECT_EQ(text.find('\n'), std::string::npos);
    return text;
  };
  EXPECT_THAT(message([](Sketch& s) { s.model = "abacus"; }), HasSubstr("'abacus'"));
  EXPECT_THAT(message([](Sketch& s) { s.pre = "guess-me"; }), HasSubstr("'guess-me'"));
  EXPECT_THAT(message([](Sketch& s) { s.merges = {"nowhere tobefound", "x"}; }),
              HasSubstr("merge 0: expected tokens, found none for 'nowhere'"));
  EXPECT_THAT(message([](Sketch& s) { s.merges = {"x"}; }), HasSubstr("merge 0: expected two tokens, found 'x'"));
  EXPECT_THAT(message([](Sketch& s) { s.merges = {"a b"}; }), HasSubstr("'ab'"));
  EXPECT_THAT(message([](Sketch& s) { s.types.resize(3); }), HasSubstr("token_type: expected 258 entries, found 3"));
  EXPECT_THAT(message([](Sketch& s) { s.tokens.clear(), s.types.clear(); }), HasSubstr("tokens"));
  EXPECT_THAT(message([](Sketch& s) { s.model = "llama"; }), HasSubstr("scores: missing"));
  const std::vector<int32_t> numbers = {1, 2, 3};
  EXPECT_THAT(message([&](Sketch& s) {
                s.more = [&](gguf::Writer& w) { w.set("tokenizer.ggml.tokens", std::span(numbers)); };
              }),
              HasSubstr("tokenizer.ggml.tokens"));
  EXPECT_THAT(message([](Sketch& s) { s.more = [](gguf::Writer& w) { w.set("tokenizer.ggml.tokens", "one"); }; }),
              HasSubstr("expected an array"));
}

TEST(Tokenizer, special_ids_beyond_the_vocabulary_are_none) {
  Sketch s;
  s.more = [](gguf::Writer& w) {
    w.set("tokenizer.ggml.bos_token_id", uint32_t{4'000'000'000});
    w.set("tokenizer.ggml.eos_token_id", uint32_t{5'000});
    w.set("tokenizer.ggml.add_bos_token", true);
  };
  const auto t = loaded(s);
  EXPECT_FALSE(t->bos().has_value());
  EXPECT_FALSE(t->eos().has_value());
  EXPECT_FALSE(t->adds_bos());
}

TEST(TokenizerJson, wrong_files_are_refused_in_one_line) {
  const auto message = [](std::string_view text) {
    const auto t = tokenizer_from_json_text(text, nullptr);
    EXPECT_FALSE(t.has_value()) << text;
    return t ? "" : t.error().message;
  };
  message("{");
  EXPECT_THAT(message(R"({"version":"1.0"})"), HasSubstr("model: missing"));
  EXPECT_THAT(message(R"({"model":{"type":"BPE","vocab":{"a":4294967295,"b":-1},"merges":[]}})"),
              HasSubstr("'a': expected an id"));
  EXPECT_THAT(message(R"({"model":{"type":"BPE","vocab":{"a":2000000000},"merges":[]}})"),
              HasSubstr("id 2000000000 with 1 tokens"));
  EXPECT_THAT(message(R"({"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}})"), HasSubstr("twice"));
  EXPECT_THAT(message(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a c"]}})"), HasSubstr("'c'"));
  EXPECT_THAT(message(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}})"),
              HasSubstr("expected two tokens"));
  EXPECT_THAT(message(R"({"model":{"type":"WordPiece","vocab":{"a":0}}})"), HasSubstr("WordPiece"));
  EXPECT_THAT(message(R"({"model":{"type":"Unigram","vocab":[["a"]]}})"), HasSubstr("vocab[0]"));
  EXPECT_THAT(message(R"({"model":{"type":"BPE","vocab":{},"merges":[]}})"), HasSubstr("none"));
  EXPECT_THAT(
      message(
          R"x({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a+)+\\1"},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})x"),
      HasSubstr("regex"));
}

TEST(TokenizerJson, config_names_bos_and_eos_and_whether_they_are_added) {
  const auto text = read_text_file(tokenizer_test_data() / "byte_bpe.json");
  ASSERT_TRUE(text.has_value());
  const auto config = Json::parse(R"({"bos_token":{"content":"<|user|>"},"eos_token":"<s>","add_bos_token":false})");
  const auto t = tokenizer_from_json_text(*text, &*config);
  ASSERT_TRUE(t.has_value());
  EXPECT_EQ((*t)->bos(), 3);
  EXPECT_EQ((*t)->eos(), 1);
  EXPECT_FALSE((*t)->adds_bos());
  const auto plain = small("byte_bpe");  // its post-processor says <s> text </s>
  EXPECT_EQ(plain->bos(), 1);
  EXPECT_THAT(plain->encode("", {.add_special = true}), ElementsAre(1, 2));
}

TEST(Tiktoken, ranks_merge_and_specials_follow) {
  std::string file;
  const auto line = [&](std::string_view base64, int rank) {
    file += std::string(base64) + " " + std::to_string(rank) + "\n";
  };
  // Every byte as its own rank, then "hi" and " hi".
  const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int b = 0; b < 256; ++b) line(std::string{digits[b >> 2], digits[(b & 3) << 4], '=', '='}, b);
  line("aGk=", 256), line("IGhp", 257);
  const auto t = tokenizer_from_tiktoken_text(file, "qwen");
  ASSERT_TRUE(t.has_value()) << t.error().message;
  EXPECT_THAT((*t)->encode("hi hi<|im_start|>", {.parse_special = true}), ElementsAre(256, 257, 259));
  EXPECT_TRUE((*t)->is_end(260));
  EXPECT_FALSE(tokenizer_from_tiktoken_text(file, "guess").has_value());
  EXPECT_FALSE(tokenizer_from_tiktoken_text(file + "aGk= 256\n", "qwen").has_value());
  EXPECT_FALSE(tokenizer_from_tiktoken_text("aGk= 0\n", "qwen").has_value());  // no token for most bytes
  EXPECT_FALSE(tokenizer_from_tiktoken_text(file + "aGk 2147483647\n", "qwen").has_value());
  EXPECT_FALSE(tokenizer_from_tiktoken_text("???\n", "qwen").has_value());
}

TEST(RoundTrip, byte_level_text_comes_back_byte_by_byte) {
  const auto t = loaded(Sketch());
  std::mt19937 random(9);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < round; ++i)
      text.push_back(static_cast<char>(random() % 3 == 0 ? random() % 256 : "hi <|"[random() % 5]));
    std::string back;
    for (const TokenId id : t->encode(text, {})) back += t->piece(id);
    ASSERT_EQ(back, text);
  }
}

TEST(RoundTrip, sentencepiece_text_comes_back) {
  const auto t = small("llama_bpe");
  for (const char* text : {"a", " a", "石磨 \u0378 x", "tabs\t\nand lines"})
    EXPECT_EQ(t->decode_from_start(t->encode(text, {})), text);
}

TEST(StreamDecoder, pieces_are_whole_characters_and_add_up) {
  const auto t = loaded(Sketch());
  std::mt19937 random(10);
  for (int round = 0; round < 500; ++round) {
    StreamDecoder decoder(*t);
    Ids ids;
    std::string text;
    for (int i = 0; i < 12; ++i) {
      ids.push_back(static_cast<TokenId>(random() % 4 == 0 ? random() % 256 : 0xE4 - random() % 0x60));
      const std::string_view piece = decoder.push(ids.back());
      ASSERT_TRUE(Json::parse(json_quote(piece)).has_value());
      text += piece;
    }
    text += decoder.flush();
    ASSERT_EQ(text, t->decode_from_start(ids));
  }
}

constexpr int kRun = kSanitized ? 50'000 : 200'000;

TEST(LinearTime, long_runs_of_one_character) {
  const std::vector<std::pair<const char*, Loaded>> all = [] {
    std::vector<std::pair<const char*, Loaded>> out;
    for (const char* name : {"byte_bpe", "llama_bpe", "unigram", "split_bpe", "metaspace_bpe"})
      out.emplace_back(name, small(name));
    return out;
  }();
  for (const auto& [name, tokenizer] : all) {
    for (const char* character : {"a", "Z", " ", "\n", "0", ".", "漢", "\u0301", "<", "\xFF"}) {
      std::string text;
      for (int i = 0; i < kRun; ++i) text += character;
      const auto start = std::chrono::steady_clock::now();
      tokenizer->encode(text, {});
      // Linear: some 0.1 s, a few under sanitizers. Quadratic: 10^10 steps.
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15))
          << name << " " << json_quote(character);
    }
  }
}

TEST(LinearTime, blanks_before_a_letter_do_not_slow_any_split_rule) {
  Sketch s;
  for (const char* pre :
       {"gpt-2", "llama-bpe", "deepseek-llm", "deepseek-v3", "gpt-4o", "default", "qwen35", "kimi-k2"}) {
    s.pre = pre;
    const auto t = loaded(s);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_GT(t->encode(std::string(kRun, ' ') + "x", {}).size(), 0u);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15)) << pre;
  }
}

}  // namespace
}  // namespace quern
