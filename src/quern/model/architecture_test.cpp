// SPDX-License-Identifier: Apache-2.0
#include "quern/model/architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "quern/model/tiny_model.h"

namespace quern::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class EveryArchitecture : public ::testing::TestWithParam<int> {
 protected:
  const Architecture& architecture() const { return *arch_table[GetParam()]; }
};
INSTANTIATE_TEST_SUITE_P(Registered, EveryArchitecture, ::testing::Range(0, arch_table_size),
                         [](const auto& param) { return std::string(arch_table[param.param]->name); });

TEST_P(EveryArchitecture, loads_its_tiny_model_and_answers_with_numbers) {
  Pool pool(2);
  auto tiny = load_tiny(architecture(), pool);
  ASSERT_TRUE(tiny) << tiny.error().message;
  const Model& model = *tiny->model;
  EXPECT_EQ(model.info().architecture, architecture().name);
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

TEST_P(EveryArchitecture, outline_has_the_facts_without_the_weights) {
  Pool pool(1);
  auto tiny = load_tiny(architecture(), pool);
  ASSERT_TRUE(tiny) << tiny.error().message;
  auto outline = load_model(*tiny->source, {kernel_table(best_isa()), pool, no_progress, Weights::outline});
  ASSERT_TRUE(outline) << outline.error().message;
  const ModelInfo &a = (*outline)->info(), &b = tiny->model->info();
  EXPECT_EQ(a.parameters, b.parameters);
  EXPECT_EQ(a.n_layer, b.n_layer);
  EXPECT_EQ(a.n_vocab, b.n_vocab);
  ASSERT_EQ((*outline)->state().size(), tiny->model->state().size());
  for (size_t i = 0; i < tiny->model->state().size(); ++i) {
    EXPECT_EQ((*outline)->state()[i].kind, tiny->model->state()[i].kind);
    EXPECT_EQ((*outline)->state()[i].floats, tiny->model->state()[i].floats);
    EXPECT_EQ((*outline)->state()[i].heads, tiny->model->state()[i].heads);
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
TEST_P(EveryArchitecture, sequences_of_a_batch_do_not_see_each_other) {
  Pool pool(2);
  auto tiny = load_tiny(architecture(), pool);
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
