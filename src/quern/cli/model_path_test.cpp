// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/model_path.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace quern {
namespace {

namespace fs = std::filesystem;

class ModelPath : public testing::Test {
 protected:
  fs::path root = fs::temp_directory_path() / ("quern_models_" + std::to_string(::getpid()));
  void SetUp() override {
    put("own/alpha.gguf", 10);
    put("own/beta-00002-of-00002.gguf", 5);
    put("own/beta-00001-of-00002.gguf", 7);
    put("own/org/gamma/config.json", 2);
    put("own/org/gamma/model.safetensors", 30);
    put("own/a/b/c/too-deep.gguf", 1);
    put("own/notes.txt", 1);
    put("cache/alpha.gguf", 99);
    put("cache/delta.Q4_K.gguf", 1);
  }
  void TearDown() override { fs::remove_all(root); }
  void put(const fs::path& path, size_t bytes) const {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << std::string(bytes, 'x');
  }
  std::vector<fs::path> folders() const { return {root / "own", root / "cache"}; }
};

TEST_F(ModelPath, lists_files_splits_and_folders_once) {
  const auto models = list_models(folders());
  ASSERT_EQ(models.size(), 4u);
  EXPECT_EQ(models[0].name, "alpha");
  EXPECT_EQ(models[0].bytes, 10) << "the first folder's";
  EXPECT_EQ(models[1].name, "beta");
  EXPECT_EQ(models[1].path.filename(), "beta-00001-of-00002.gguf");
  EXPECT_EQ(models[1].bytes, 12);
  EXPECT_EQ(models[2].name, "delta.Q4_K");
  EXPECT_EQ(models[3].name, "gamma");
  EXPECT_EQ(models[3].format, "safetensors");
  EXPECT_EQ(models[3].bytes, 30);
}

TEST_F(ModelPath, finds_paths_then_names) {
  EXPECT_EQ(find_model((root / "own/alpha.gguf").string(), folders()).value(), root / "own/alpha.gguf");
  EXPECT_EQ(find_model("gamma", folders()).value(), root / "own/org/gamma");
  EXPECT_EQ(find_model("delta.Q4_K", folders()).value(), root / "cache/delta.Q4_K.gguf");
  EXPECT_EQ(find_model("delta.Q4_K.gguf", folders()).value(), root / "cache/delta.Q4_K.gguf");
  EXPECT_EQ(find_model("beta", folders()).value().filename(), "beta-00001-of-00002.gguf");
}

TEST_F(ModelPath, what_is_missing_is_named_with_the_nearest) {
  const auto near = find_model("alhpa", folders());
  ASSERT_FALSE(near);
  EXPECT_EQ(near.error().code, ErrorCode::not_found);
  EXPECT_EQ(near.error().message,
            "alhpa: expected a file, a folder or a name that `quern list` shows, found nothing (nearest name: alpha)");
  EXPECT_EQ(find_model("/nonexistent/else.bin", folders()).error().message.find("nearest"), std::string::npos);
  EXPECT_EQ(find_model("", {}).error().message,
            "'': expected a file, a folder or a name that `quern list` shows, found nothing");
  EXPECT_FALSE(find_model(std::string(100000, 'x'), folders()));
}

TEST_F(ModelPath, a_model_is_called_as_its_file_or_folder) {
  const fs::path gamma = root / "own/org/gamma";
  put("own/org/gamma/model.safetensors.index.json", 2);
  put("own/org/tokenizer.json", 2);
  for (const char* file : {"", "config.json", "model.safetensors", "model.safetensors.index.json", ".", "../gamma/",
                           "../gamma//config.json", "./", "../../org/./gamma"})
    EXPECT_EQ(model_name(gamma / file), "gamma") << file;
  EXPECT_EQ(model_name(gamma), "gamma");
  EXPECT_EQ(model_name(root / "cache/delta.Q4_K.gguf"), "delta.Q4_K");
  for (const char* part : {"own/beta-00001-of-00002.gguf", "own/beta-00002-of-00002.gguf"})
    EXPECT_EQ(model_name(root / part), "beta") << part;
  for (const char* other : {"beta-00003-of-00002", "beta-1-of-2", "-00001-of-00002.bin"})
    EXPECT_EQ(model_name(root / other), other);
  EXPECT_EQ(model_name("-00001-of-00002.gguf"), "-00001-of-00002.gguf") << "else it would have no name";
  EXPECT_EQ(model_name(root / "own/org/tokenizer.json"), "tokenizer.json");
  EXPECT_EQ(model_name("/"), "/");
  const fs::path before = fs::current_path();
  fs::current_path(gamma);
  for (const char* file : {".", "./", "config.json", "./model.safetensors", "../gamma"})
    EXPECT_EQ(model_name(file), "gamma") << file;
  fs::current_path(before);
}

TEST_F(ModelPath, a_listed_model_is_called_the_same_by_its_path) {
  for (const ListedModel& model : list_models(folders())) EXPECT_EQ(model_name(model.path), model.name);
}

TEST_F(ModelPath, weights_that_nobody_reads_do_not_count) {
  const auto bytes = [&] { return list_models(folders()).at(3).bytes; };
  put("own/org/gamma/consolidated.safetensors", 1000);
  EXPECT_EQ(bytes(), 30);
  fs::rename(root / "own/org/gamma/model.safetensors", root / "own/org/gamma/part-1.safetensors");
  put("own/org/gamma/part-2.safetensors", 4);
  EXPECT_EQ(bytes(), 0) << "nothing says which";
  std::ofstream(root / "own/org/gamma/model.safetensors.index.json")
      << R"({"weight_map":{"a":"part-1.safetensors","b":"part-2.safetensors","c":"part-1.safetensors"}})";
  EXPECT_EQ(bytes(), 34);
}

TEST_F(ModelPath, all_paths_to_a_model_stand_for_one_place) {
  const fs::path gamma = root / "own/org/gamma", beta = root / "own/beta-00001-of-00002.gguf";
  fs::create_directory_symlink(gamma, root / "link");
  fs::create_symlink(root / "own/alpha.gguf", root / "link.gguf");
  const fs::path place = fs::canonical(gamma);
  for (const fs::path& path : {gamma, gamma / "", gamma / "config.json", gamma / "model.safetensors",
                               gamma / "../gamma/.", root / "link", root / "link/config.json"})
    EXPECT_EQ(model_place(path), place) << path;
  EXPECT_EQ(model_place(root / "own/beta-00002-of-00002.gguf"), fs::canonical(beta));
  EXPECT_EQ(model_place(beta), fs::canonical(beta));
  EXPECT_EQ(model_place(root / "link.gguf"), fs::canonical(root / "own/alpha.gguf"));
  EXPECT_NE(model_place(root / "own/alpha.gguf"), model_place(root / "cache/alpha.gguf"));
  fs::remove(beta);
  EXPECT_EQ(model_place(root / "own/beta-00002-of-00002.gguf"), fs::canonical(root / "own") / beta.filename());
}

}  // namespace
}  // namespace quern
