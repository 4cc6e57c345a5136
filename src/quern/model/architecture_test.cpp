// SPDX-License-Identifier: Apache-2.0
#include "quern/model/architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quern/model/tiny_model.h"

namespace quern::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class EveryArchitecture : public ::testing::TestWithParam<int> {
 protected:
  const Architecture& architecture() const { return *arch_table[GetParam()]; }
};
INSTANTIATE_TEST_SUITE_P(Registered, EveryArchitecture, ::testing::Range(0, arch_table_size),
                         [](const auto& param) { return std::string(arch_table[param.param]->name); });

class EveryTinyVariant : public ::testing::TestWithParam<TinyVariant> {};
INSTANTIATE_TEST_SUITE_P(Tiny, EveryTinyVariant, ::testing::ValuesIn(all_tiny_variants()),
                         [](const auto& param) { return param.param.name; });

TEST_P(EveryTinyVariant, loads_and_answers_with_numbers) {
  Pool pool(2);
  auto tiny = load_tiny(GetParam(), pool);
  ASSERT_TRUE(tiny) << tiny.error().message;
  const Model& model = *tiny->model;
  EXPECT_EQ(model.info().architecture, tiny->source->architecture());
  EXPECT_EQ(model.info().parameters, tiny->source->elements());
  EXPECT_GE(model.info().weight_bytes, model.info().step_bytes);
  const auto logits = all_logits(model, pool, random_tokens(70, model.info().n_vocab, 3), 32);
  float largest = 0;
  for (float v : logits) {
    ASSERT_TRUE(std::isfinite(v));
    largest = std::max(largest, std::abs(v));
  }
  EXPECT_GT(largest, 0.01f);
}

/// The workspace grows by doubling and leaves the ends of its pieces unused: it may hold twice what is taken, and a
/// half.
TEST_P(EveryTinyVariant, takes_the_work_space_that_it_says) {
  Pool pool(2);
  auto tiny = load_tiny(GetParam(), pool);
  ASSERT_TRUE(tiny) << tiny.error().message;
  const Model& model = *tiny->model;
  constexpr int kTokens = 400;
  const auto tokens = random_tokens(kTokens, model.info().n_vocab, 3);
  SequenceState state(model.state(), KvType::f32);
  const quern::Run run{0, kTokens, 0, state.prepare(kTokens)};
  Workspace workspace;
  model.forward({tokens, {&run, 1}, {}}, workspace, pool, {});
  const int64_t said = kTokens * model.info().token_bytes;
  EXPECT_GE(workspace.bytes(), said / 2);
  EXPECT_LE(workspace.bytes(), 5 * said / 2 + (1 << 17));
}

TEST_P(EveryTinyVariant, outline_has_the_facts_without_the_weights) {
  Pool pool(1);
  auto tiny = load_tiny(GetParam(), pool);
  ASSERT_TRUE(tiny) << tiny.error().message;
  auto outline = load_model(*tiny->source, {kernel_table(best_isa()), pool, no_progress, Weights::outline});
  ASSERT_TRUE(outline) << outline.error().message;
  const ModelInfo &a = (*outline)->info(), &b = tiny->model->info();
  EXPECT_EQ(a.parameters, b.parameters);
  EXPECT_EQ(a.weight_bytes, b.weight_bytes);
  EXPECT_EQ(a.step_bytes, b.step_bytes);
  EXPECT_EQ(a.n_layer, b.n_layer);
  EXPECT_EQ(a.n_vocab, b.n_vocab);
  ASSERT_EQ((*outline)->state().size(), tiny->model->state().size());
  for (size_t i = 0; i < tiny->model->state().size(); ++i) {
    EXPECT_EQ((*outline)->state()[i].kind, tiny->model->state()[i].kind);
    EXPECT_EQ((*outline)->state()[i].floats, tiny->model->state()[i].floats);
    EXPECT_EQ((*outline)->state()[i].heads, tiny->model->state()[i].heads);
  }
}

/// Counted from the names and shapes: a matrix is met by every token or, at the end of the last layer, by those whose
/// logits are wanted; an expert by the tokens that chose it. With a layer less a hybrid ends with a recurrent one.
TEST_P(EveryArchitecture, products_of_a_token_are_the_weights_it_meets) {
  Pool pool(1);
  const auto contains = [](std::string_view name, std::initializer_list<std::string_view> parts) {
    return std::ranges::any_of(parts, [&](std::string_view part) { return name.find(part) != name.npos; });
  };
  for (int less : {0, 1}) {
    gguf::Writer writer = tiny_metadata(architecture());
    const auto number = [&](std::string_view key) {
      const auto bytes = *writer.bytes();
      return *gguf::File::parse(bytes)->find(fmt::format("{}.{}", architecture().name, key))->integer();
    };
    const int64_t n_layer = number("block_count") - less;
    writer.set(fmt::format("{}.block_count", architecture().name), static_cast<uint32_t>(n_layer));
    const auto bytes = *writer.bytes();
    const auto source = ModelSource::imagined(*gguf::File::parse(bytes));
    ASSERT_TRUE(source) << source.error().message;
    const auto outline = load_model(**source, {kernel_table(best_isa()), pool, no_progress, Weights::outline});
    ASSERT_TRUE(outline) << outline.error().message;
    const ModelInfo& info = (*outline)->info();
    const auto tensors = asked_tensors(writer);
    ASSERT_TRUE(tensors) << tensors.error().message;
    const std::string last = fmt::format("blk.{}.", n_layer - 1);
    int64_t token = 0, output = info.n_embd * info.n_vocab;
    for (const auto& [name, shape] : *tensors) {
      if (!name.starts_with("blk.") || name.ends_with("ssm_a") || contains(name, {"norm", ".bias", "conv1d"})) continue;
      int64_t products = shape.elements();
      if (contains(name, {"_exps"})) products = products / shape.ne[2] * number("expert_used_count");
      const bool leaves_state = contains(name, {".attn_k.", ".attn_v.", ".attn_qkv.", ".attn_gate.", ".ssm_"});
      (name.starts_with(last) && !leaves_state ? output : token) += products;
    }
    EXPECT_EQ(info.token_products, token) << n_layer;
    EXPECT_EQ(info.output_products, output) << n_layer;
  }
}

TEST_P(EveryArchitecture, every_tensor_is_needed_with_its_shape) {
  auto whole = tiny_writer(architecture());
  ASSERT_TRUE(whole) << whole.error().message;
  const auto bytes = whole->bytes();
  ASSERT_TRUE(bytes);
  const auto file = gguf::File::parse(*bytes);
  ASSERT_TRUE(file);
  Pool pool(1);
  // Each tensor in turn one row or element longer than it should be.
  for (const gguf::Tensor& wrong : file->tensors()) {
    gguf::Writer writer;
    for (const gguf::Entry& entry : file->metadata()) writer.copy(entry);
    for (const gguf::Tensor& tensor : file->tensors()) {
      Shape shape = tensor.view.shape;
      std::vector<std::byte> data(tensor.view.data.begin(), tensor.view.data.end());
      if (&tensor == &wrong) {
        ++shape.ne[shape.rank - 1];
        data.resize(shape.elements() * 4);
      }
      writer.add(tensor.name, shape, quant_f32, std::move(data));
    }
    const auto edited = writer.bytes();
    ASSERT_TRUE(edited);
    auto parsed = gguf::File::parse(*edited);
    ASSERT_TRUE(parsed) << parsed.error().message;
    auto source = ModelSource::from(std::move(*parsed));
    ASSERT_TRUE(source) << source.error().message;
    auto model = load_model(**source, {kernel_table(best_isa()), pool, no_progress, Weights::outline});
    ASSERT_FALSE(model) << wrong.name;
    EXPECT_THAT(model.error().message, AllOf(HasSubstr(wrong.name), HasSubstr("expected")));
  }
}

TEST_P(EveryArchitecture, loading_can_be_cancelled) {
  Pool pool(1);
  auto tiny = load_tiny(architecture(), pool);
  ASSERT_TRUE(tiny);
  int calls = 0;
  const auto stop = [&](int64_t done, int64_t total) {
    EXPECT_LE(done, total);
    return ++calls < 3;
  };
  auto model = load_model(*tiny->source, {kernel_table(best_isa()), pool, stop});
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::cancelled);
  EXPECT_EQ(calls, 3);
}

/// Two sequences in one batch, at other lengths, give the bits that each gives alone.
TEST_P(EveryTinyVariant, sequences_of_a_batch_do_not_see_each_other) {
  Pool pool(2);
  auto tiny = load_tiny(GetParam(), pool);
  ASSERT_TRUE(tiny) << tiny.error().message;
  const Model& model = *tiny->model;
  const int64_t n_vocab = model.info().n_vocab;
  const auto a = random_tokens(70, n_vocab, 5), b = random_tokens(9, n_vocab, 6);
  const auto alone_a = all_logits(model, pool, a, 512), alone_b = all_logits(model, pool, b, 512);

  SequenceState state_a(model.state(), KvType::f32), state_b(model.state(), KvType::f32);
  std::vector<int32_t> tokens = b;
  tokens.insert(tokens.end(), a.begin(), a.end());
  const quern::Run runs[] = {{0, 9, 0, state_b.prepare(9)}, {9, 70, 0, state_a.prepare(70)}};
  const int outputs[] = {8, 9, 78};
  std::vector<float> logits(3 * n_vocab);
  Workspace workspace;
  model.forward({tokens, runs, outputs}, workspace, pool, logits);
  const auto row = [&](const std::vector<float>& from, int64_t i) {
    return std::vector<float>(from.begin() + i * n_vocab, from.begin() + (i + 1) * n_vocab);
  };
  EXPECT_EQ(row(logits, 0), row(alone_b, 8));
  EXPECT_EQ(row(logits, 1), row(alone_a, 0));
  EXPECT_EQ(row(logits, 2), row(alone_a, 69));
}

/// Each layer sees kTinyWindow - 1 tokens back: so far a token's influence reaches, and not one further.
TEST(TinyVariants, windows_bound_what_a_token_reaches) {
  const auto variants = all_tiny_variants();
  const auto variant = std::ranges::find(variants, true, &TinyVariant::window);
  ASSERT_NE(variant, variants.end());
  Pool pool(2);
  auto tiny = load_tiny(*variant, pool);
  ASSERT_TRUE(tiny) << tiny.error().message;
  for (const StateItem& item : tiny->model->state()) EXPECT_EQ(item.kind, StateKind::window);
  const int64_t n_vocab = tiny->model->info().n_vocab;
  auto tokens = random_tokens(90, n_vocab, 8);
  const auto before = all_logits(*tiny->model, pool, tokens, 16);
  tokens[0] ^= 1;
  const auto after = all_logits(*tiny->model, pool, tokens, 16);
  constexpr int kReach = kTinyWindowLayers * (kTinyWindow - 1);
  for (int64_t t = 0; t < 90; ++t)
    EXPECT_EQ(std::equal(&before[t * n_vocab], &before[t * n_vocab] + n_vocab, &after[t * n_vocab]), t > kReach) << t;
}

TEST(TinyVariants, quantized_weights_are_within_half_a_step) {
  std::mt19937 random(4);
  std::vector<float> values(96), out(96);
  for (size_t i = 32; i < 96; ++i) values[i] = static_cast<float>(random() % 2001) * 1e-3f - 1;
  const auto bytes = encode_q8_0(values);
  const QuantType& type = *find_quant_type("Q8_0");
  ASSERT_EQ(bytes.size(), static_cast<size_t>(type.row_bytes(96)));
  type.decode(bytes.data(), out.data(), 3);
  // A step is at most 1/127; the binary16 scale, off by 2^-11 of itself, moves the largest by that much.
  for (size_t i = 0; i < 96; ++i) EXPECT_NEAR(out[i], values[i], i < 32 ? 0 : 0.5 / 127 + 0x1p-10) << i;
}

TEST(TinyVariants, k_quants_are_both_types_in_every_feed_forward_part) {
  for (const Architecture* architecture : std::span(arch_table, arch_table_size)) {
    const auto bytes = *tiny_writer(*architecture, 1, TinyWeights::k_quants)->bytes();
    const auto file = *gguf::File::parse(bytes);
    std::vector<std::string> types;
    for (const gguf::Tensor& tensor : file.tensors())
      if (tensor.name.find("ffn_down") != std::string::npos) types.emplace_back(tensor.view.type->name);
    EXPECT_THAT(types, AllOf(Contains("Q4_K"), Contains("Q6_K"))) << architecture->name;
  }
}

TEST(TinyVariants, k_quants_have_the_spread_of_other_weights) {
  const Shape shape{512, 16};
  for (const char* name : {"Q4_K", "Q6_K"}) {
    const QuantType& type = *find_quant_type(name);
    std::mt19937 random(5);
    const auto bytes = random_k_blocks(type, shape, random);
    std::vector<float> values(shape.elements());
    type.decode(bytes.data(), values.data(), shape.elements() / 256);
    double sum = 0, squares = 0;
    for (float v : values) sum += v, squares += v * v;
    const double n = static_cast<double>(values.size());
    // Standard error of a mean of 256 or more groups that share a scale: 4 in 100 of the spread.
    EXPECT_NEAR(sum / n * std::sqrt(512), 0, 0.15) << name;
    EXPECT_NEAR(std::sqrt(squares / n * 512), 1, 0.15) << name;
  }
}

TEST(Architecture, unknown_names_list_the_known) {
  gguf::Writer writer;
  writer.set("general.architecture", "hal9000");
  const auto bytes = writer.bytes();
  ASSERT_TRUE(bytes);
  auto source = ModelSource::from(*gguf::File::parse(*bytes));
  ASSERT_TRUE(source);
  auto found = find_architecture(**source);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::unsupported);
  EXPECT_THAT(found.error().message, AllOf(HasSubstr("llama"), HasSubstr("qwen35"), HasSubstr("found \"hal9000\"")));
}

TEST(Architecture, what_is_no_model_is_refused) {
  gguf::Writer writer;
  writer.set("general.architecture", "llama").set("general.type", "mmproj");
  const auto bytes = writer.bytes();
  ASSERT_TRUE(bytes);
  auto source = ModelSource::from(*gguf::File::parse(*bytes));
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().message, "general.type: expected \"model\", found \"mmproj\"");
}

}  // namespace
}  // namespace quern::testing
