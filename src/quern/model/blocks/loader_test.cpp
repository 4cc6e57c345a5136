// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "quern/gguf/writer.h"
#include "quern/model/testing.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr TensorName kFirst{"a.weight", "model.a"}, kSecond{"b.weight", "model.b"};
constexpr int64_t kGroups = 16, kRows = 32, kColumns = 1024;
constexpr int64_t kBytes = 2 * kGroups * kRows * kColumns * 4;  // of a tensor

/// A file of two tensors of 4 MiB: the number in row r, column c is r + c / 1024.
class LoaderOfFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / fmt::format("quern-loader-{}.gguf", ::getpid());
    std::vector<float> values;
    for (int64_t r = 0; r < 2 * kGroups * kRows; ++r)
      for (int64_t c = 0; c < kColumns; ++c) values.push_back(static_cast<float>(r) + static_cast<float>(c) / 1024);
    gguf::Writer writer;
    writer.set("general.architecture", std::string_view("none"));
    for (TensorName name : {kFirst, kSecond})
      writer.add(name.gguf, {kColumns, 2 * kGroups * kRows}, quant_f32, std::span<const float>(values));
    ASSERT_TRUE(writer.write(path_));
    auto opened = ModelSource::open(path_);
    ASSERT_TRUE(opened) << opened.error().message;
    source_ = *std::move(opened);
  }
  void TearDown() override { fs::remove(path_); }

  /// Bytes of the file that count as memory of this process.
  int64_t resident() const {
    std::ifstream in("/proc/self/smaps");
    int64_t bytes = 0;
    bool ours = false;
    for (std::string line; std::getline(in, line);) {
      if (line.find('-') < line.find(' ')) ours = line.ends_with(path_.filename().string());  // 7f00-7f01 r--p ...
      if (ours && line.starts_with("Rss:")) bytes += std::stoll(line.substr(4)) * 1024;
    }
    return bytes;
  }

  /// Column c of a matrix.
  std::vector<float> column(const Matrix& matrix, int64_t c) {
    std::vector<float> x(kColumns), y(matrix.rows());
    x[c] = 1;
    Workspace workspace;
    Activations inputs(workspace, kernels_, pool_.size(), 1, kColumns, 0);
    pool_.run([&](const Worker& worker) {
      inputs.set(worker, x.data(), 1, kColumns, matrix.inputs());
      worker.barrier();
      matmul(worker, {&matrix, nullptr, y.data(), matrix.rows()}, inputs);
    });
    return y;
  }

  fs::path path_;
  std::unique_ptr<ModelSource> source_;
  const KernelTable& kernels_ = kernel_table(best_isa());
  Pool pool_{2};
  const LoadContext context_{kernels_, pool_, testing::no_progress};
};

TEST_F(LoaderOfFile, halves_of_a_tensor_are_its_alternating_rows) {
  Loader loader(*source_, context_);
  auto halves = loader.matrix_halves(kFirst, 0, kGroups, kRows, kColumns);
  ASSERT_TRUE(halves) << halves.error().message;
  EXPECT_EQ(loader.parameters(), kBytes / 4);
  EXPECT_EQ(loader.weight_bytes(), kBytes);
  for (int64_t half : {0, 1}) {
    const std::vector<float> y = column((*halves)[half], 512);
    ASSERT_EQ(std::ssize(y), kGroups * kRows);
    for (int64_t r = 0; r < kGroups * kRows; ++r)
      EXPECT_EQ(y[r], static_cast<float>((r / kRows * 2 + half) * kRows + r % kRows) + 0.5f) << half << ", row " << r;
  }
}

TEST_F(LoaderOfFile, what_is_packed_leaves_no_copy_in_memory) {
  Loader loader(*source_, context_);
  ASSERT_TRUE(source_->gguf());
  for (TensorName name : {kFirst, kSecond}) {
    const TensorView& view = *source_->find_tensor(name);
    int64_t sum = 0;
    for (size_t i = 3; i < view.data.size(); i += 512) sum += static_cast<int64_t>(view.data[i]);
    EXPECT_GT(sum, 0);
  }
  EXPECT_GE(resident(), 2 * kBytes);
  ASSERT_TRUE(loader.matrix_halves(kFirst, 0, kGroups, kRows, kColumns));
  EXPECT_LT(resident(), kBytes + kBytes / 4);
  ASSERT_TRUE(loader.matrix(kSecond, 0, 2 * kGroups * kRows, kColumns));
  EXPECT_LT(resident(), kBytes / 4);
}

}  // namespace
}  // namespace quern
