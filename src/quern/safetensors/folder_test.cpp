// SPDX-License-Identifier: Apache-2.0
#include "quern/safetensors/folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>

#include "quern/io/mapped_file.h"
#include "quern/safetensors/testing.h"

namespace quern::safetensors {
namespace {

namespace fs = std::filesystem;

/// An empty folder of its own for each test.
class SafetensorsFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    dir_ = fs::temp_directory_path() / fmt::format("quern-folder-{}-{}", test->name(), ::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  void write(const fs::path& name, std::string_view text) { std::ofstream(dir_ / name, std::ios::binary) << text; }
  /// A file of float32 tensors of one number each.
  void write_weights(const fs::path& name, const std::vector<std::pair<std::string, float>>& tensors) {
    std::string header = "{";
    std::vector<std::byte> data(4 * tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::memcpy(data.data() + 4 * i, &tensors[i].second, 4);
      header += fmt::format(R"({}{}:{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}})", i ? "," : "",
                            json_quote(tensors[i].first), 4 * i, 4 * i + 4);
    }
    const auto bytes = testing::file_of(header + "}", data);
    write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  void write_model() {
    write("config.json", R"({"model_type":"llama","n":3})");
    write_weights("model.safetensors", {{"b", 2}, {"a", 1}});
  }
  std::string error() const {
    auto folder = Folder::open(dir_);
    return folder ? "" : folder.error().message;
  }
  std::string path(const char* name) const { return (dir_ / name).string(); }

  fs::path dir_;
};

float value_of(const Folder& folder, std::string_view name) {
  const Tensor* tensor = folder.find(name);
  float value = -1;
  if (tensor) tensor->view.decode_row(0, &value);
  return value;
}

TEST_F(SafetensorsFolder, opens_by_folder_config_or_weights) {
  write_model();
  for (const fs::path& given : {dir_, dir_ / "", dir_ / "config.json", dir_ / "model.safetensors"}) {
    auto folder = Folder::open(given);
    ASSERT_TRUE(folder) << folder.error().message;
    EXPECT_EQ(folder->config().find("n")->integer(), 3);
    EXPECT_TRUE(folder->generation_config().is_null());
    ASSERT_EQ(folder->tensors().size(), 2u);
    EXPECT_EQ(folder->tensors()[0].name, "a");  // sorted
    EXPECT_EQ(value_of(*folder, "b"), 2);
    EXPECT_EQ(folder->find("c"), nullptr);
    EXPECT_EQ(folder->file_bytes(), static_cast<int64_t>(fs::file_size(dir_ / "model.safetensors")));
    EXPECT_FALSE(folder->tokenizer_json());
    EXPECT_FALSE(folder->tokenizer_config());
    EXPECT_FALSE(folder->chat_template()->has_value());
  }
  write_weights("adapter.safetensors", {{"x", 1}});
  write("tokenizer.json", "{}");
  EXPECT_FALSE(Folder::open(dir_ / "adapter.safetensors"));  // there, but no part of this model
  EXPECT_FALSE(Folder::open(dir_ / "tokenizer.json"));
  EXPECT_EQ(Folder::open(dir_ / "none.safetensors").error().message,
            path("none.safetensors") + ": no such file or folder");
}

TEST_F(SafetensorsFolder, is_named_by_itself_and_its_files) {
  for (const char* name : {"config.json", "model.safetensors.index.json", "model.safetensors", "part-2.safetensors"}) {
    EXPECT_EQ(folder_of(dir_ / name), dir_) << name;
    EXPECT_EQ(folder_of(name), ".") << name;
  }
  EXPECT_EQ(folder_of(dir_), dir_);
  EXPECT_EQ(folder_of(dir_ / ""), dir_ / "");
  fs::create_directories(dir_ / "model.gguf");
  EXPECT_EQ(folder_of(dir_ / "model.gguf"), dir_ / "model.gguf") << "a folder by any name";
  for (const char* name : {"tokenizer.json", "notes.json", "model.Q4_0.gguf", ".safetensors", "safetensors", ""})
    EXPECT_EQ(folder_of(name), std::nullopt) << name;
}

TEST_F(SafetensorsFolder, says_what_is_missing) {
  EXPECT_EQ(error(),
            dir_.string() + ": expected a model folder with config.json and model.safetensors, found no config.json");
  write("config.json", "{}");
  EXPECT_EQ(error(), dir_.string() + ": expected model.safetensors or model.safetensors.index.json, found neither");
  write("config.json", "{ model_type: llama }");
  EXPECT_NE(error().find("config.json: JSON"), std::string::npos);
  write("config.json", "[]");
  EXPECT_EQ(error(), path("config.json") + ": expected a JSON object");
}

TEST_F(SafetensorsFolder, generation_config_is_checked_too) {
  write_model();
  write("generation_config.json", R"({"eos_token_id":[1,2]})");
  EXPECT_TRUE(Folder::open(dir_)->generation_config().find("eos_token_id"));
  write("generation_config.json", "{");
  EXPECT_NE(error().find("generation_config.json"), std::string::npos);
}

TEST_F(SafetensorsFolder, shards_make_one_model) {
  write("config.json", "{}");
  write_weights("one.safetensors", {{"a", 1}, {"c", 3}});
  write_weights("two.safetensors", {{"b", 2}});
  write("model.safetensors.index.json",
        R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"one.safetensors"}})");
  for (const fs::path& given : {dir_, dir_ / "two.safetensors", dir_ / "model.safetensors.index.json"}) {
    auto folder = Folder::open(given);
    ASSERT_TRUE(folder) << folder.error().message;
    ASSERT_EQ(folder->tensors().size(), 3u);
    EXPECT_EQ(value_of(*folder, "a"), 1);
    EXPECT_EQ(value_of(*folder, "b"), 2);
    EXPECT_EQ(value_of(*folder, "c"), 3);
  }
  write_weights("model.safetensors", {{"a", 7}});  // a whole file counts more
  EXPECT_EQ(value_of(*Folder::open(dir_), "a"), 7);
}

TEST_F(SafetensorsFolder, tells_its_weights_without_opening_them) {
  const auto paths = [&] {
    const auto found = weight_paths(dir_);
    return found ? *found : std::vector<fs::path>{found.error().message};
  };
  EXPECT_FALSE(is_model_folder(dir_));
  write("config.json", "{}");
  EXPECT_TRUE(is_model_folder(dir_));
  write("consolidated.safetensors", "no weights");
  EXPECT_NE(paths().at(0).string().find("found neither"), std::string::npos) << paths().at(0);
  write("model.safetensors.index.json",
        R"({"weight_map":{"a":"2.safetensors","b":"1.safetensors","c":"2.safetensors"}})");
  EXPECT_EQ(paths(), (std::vector<fs::path>{path("1.safetensors"), path("2.safetensors")}));
  write("model.safetensors", "counts more");
  EXPECT_EQ(paths(), (std::vector<fs::path>{path("model.safetensors")}));
}

TEST_F(SafetensorsFolder, an_index_leads_nowhere_else) {
  write("config.json", "{}");
  write_weights("one.safetensors", {{"a", 1}});
  fs::create_directories(dir_ / "sub");
  write_weights("sub/one.safetensors", {{"a", 1}});
  for (const char* name :
       {"../one.safetensors", "sub/one.safetensors", "/etc/passwd", "..", ".", "", "one.safetensors\\u0000x"}) {
    write("model.safetensors.index.json", fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name));
    EXPECT_NE(error().find("a: expected the name of a file in the same folder, found "), std::string::npos)
        << name << ": " << error();
  }
  for (const char* text :
       {"{}", R"({"weight_map":{}})", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})", "[", "[]"}) {
    write("model.safetensors.index.json", text);
    EXPECT_NE(error(), "") << text;
  }
  write("model.safetensors.index.json", R"({"weight_map":{"a":"two.safetensors"}})");
  EXPECT_EQ(error(), path("two.safetensors") + ": cannot open: No such file or directory");
  write("model.safetensors.index.json", R"({"weight_map":{"z":"one.safetensors"}})");
  EXPECT_EQ(error(), path("one.safetensors") + ": expected tensor z as model.safetensors.index.json says, found none");
  write_weights("two.safetensors", {{"b", 1}, {"a", 1}});
  write("model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  EXPECT_EQ(error(), dir_.string() + ": tensor a stands in two files");
}

TEST_F(SafetensorsFolder, chat_template_from_wherever_it_is_published) {
  write_model();
  const auto found = [&]() -> std::string {
    auto text = Folder::open(dir_)->chat_template();
    if (!text) return "error: " + text.error().message;
    return text->value_or("none");
  };
  write("tokenizer_config.json", R"({"chat_template":null})");
  EXPECT_EQ(found(), "none");
  write("chat_template.json", R"({"chat_template":"of the processor"})");
  EXPECT_EQ(found(), "of the processor");
  write("tokenizer_config.json", R"({"chat_template":"plain"})");
  EXPECT_EQ(found(), "plain");
  write(
      "tokenizer_config.json",
      R"({"chat_template":[{"name":"rag","template":"r"},{"name":"default","template":"d"},{"name":"tool_use","template":"t"}]})");
  EXPECT_EQ(found(), "d");
  write("tokenizer_config.json", R"({"chat_template":[{"name":"rag","template":"r"}]})");
  EXPECT_EQ(found(),
            "error: " + path("tokenizer_config.json") + ": chat_template: expected one named default, found 1 others");
  for (const char* wrong :
       {R"({"chat_template":7})", R"({"chat_template":["x"]})", R"({"chat_template":[{"name":"default"}]})", "{"}) {
    write("tokenizer_config.json", wrong);
    EXPECT_EQ(found().substr(0, 7), "error: ") << wrong;
  }
  write("chat_template.jinja", "{{ file }}");
  EXPECT_EQ(found(), "{{ file }}");
}

fs::path golden() {
  for (const char* variable : {"QUERN_SHARED_DATA", "QUERN_SHARED"})
    if (const char* given = std::getenv(variable)) return fs::path(given) / "golden/models";
  return fs::path(QUERN_SOURCE_DIR) / "../shared/golden/models";
}

/// The reference reading of a tensor: straight from the file's own header, in double.
std::vector<double> reference(std::span<const std::byte> bytes, const Json& entry) {
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  const auto& offsets = entry.find("data_offsets")->array();
  const auto data = bytes.subspan(8 + length + offsets[0].integer(), offsets[1].integer() - offsets[0].integer());
  const bool wide = entry.find("dtype")->string() == "F32";
  std::vector<double> out(data.size() / (wide ? 4 : 2));
  for (size_t i = 0; i < out.size(); ++i) {
    uint32_t bits = 0;
    if (wide)
      std::memcpy(&bits, data.data() + 4 * i, 4);
    else
      std::memcpy(reinterpret_cast<char*>(&bits) + 2, data.data() + 2 * i, 2);  // bfloat16: the upper half
    out[i] = std::bit_cast<float>(bits);
  }
  return out;
}

TEST(SafetensorsGolden, folders_as_published_give_their_numbers) {
  if (!fs::exists(golden() / "llama")) GTEST_SKIP() << "no golden models";
  std::map<std::string, int> seen;
  for (const auto& model : fs::directory_iterator(golden())) {
    const fs::path path = model.path() / "hf";
    if (!fs::exists(path / "model.safetensors")) continue;
    auto folder = Folder::open(path);
    ASSERT_TRUE(folder) << folder.error().message;
    const MappedFile file = *MappedFile::open(path / "model.safetensors");
    uint64_t length;
    std::memcpy(&length, file.bytes().data(), 8);
    const Json header = *Json::parse({reinterpret_cast<const char*>(file.bytes().data()) + 8, length});
    size_t n = 0;
    for (const auto& [name, entry] : header.object()) {
      if (name == "__metadata__") continue;
      ++n;
      const Tensor* tensor = folder->find(name);
      ASSERT_NE(tensor, nullptr) << path << ": " << name;
      EXPECT_EQ(tensor->dtype, entry.find("dtype")->string());
      if (tensor->dtype != "F32" && tensor->dtype != "BF16") continue;
      const auto expected = reference(file.bytes(), entry);
      ASSERT_EQ(tensor->view.shape.elements(), static_cast<int64_t>(expected.size()));
      std::vector<float> row(tensor->view.shape.columns());
      for (int64_t r = 0, i = 0; r < tensor->view.shape.rows(); ++r) {
        tensor->view.decode_row(r, row.data());
        for (const float x : row) ASSERT_EQ(x, expected[i++]) << path << ": " << name;
      }
      ++seen[std::string(tensor->dtype)];
    }
    EXPECT_EQ(folder->tensors().size(), n);
    EXPECT_TRUE(folder->config().find("model_type"));
  }
  EXPECT_GT(seen["BF16"], 100);
  EXPECT_GT(seen["F32"], 50);
}

}  // namespace
}  // namespace quern::safetensors
