// SPDX-License-Identifier: Apache-2.0
#include "quern/model/source.h"

#include <array>

namespace quern {
namespace {

/// Folders that hold more than a text model put its tensors deeper; the first prefix that has an embedding counts.
constexpr std::array<std::string_view, 4> kPrefixes = {"model.", "model.language_model.", "language_model.model.", ""};

std::string with_layer(std::string_view pattern, int layer) {
  std::string out(pattern);
  if (const size_t at = out.find("{}"); at != out.npos) out.replace(at, 2, std::to_string(layer));
  return out;
}

/// Dimensions of 1 say nothing: a convolution is [channels, 1, kernel] in one container and [channels, kernel] in the
/// other.
bool same_shape(const Shape& a, const Shape& b) {
  const auto next = [](const Shape& s, size_t& i) {
    while (i < s.ne.size() && s.ne[i] == 1) ++i;
    return i < s.ne.size() ? s.ne[i++] : int64_t{1};
  };
  size_t i = 0, j = 0;
  while (i < a.ne.size() || j < b.ne.size())
    if (next(a, i) != next(b, j)) return false;
  return true;
}

}  // namespace

Result<std::unique_ptr<ModelSource>> ModelSource::open(const std::filesystem::path& path) {
  // Of other JSON files too: it says what it expects.
  if (safetensors::folder_of(path) || path.extension() == ".json") {
    QUERN_TRY(auto folder, safetensors::Folder::open(path));
    auto source = from(std::move(folder));
    return source ? std::move(source) : std::move(source).error().in(path.string());
  }
  QUERN_TRY(auto file, gguf::File::open(path));
  auto source = from(std::move(file));
  return source ? std::move(source) : std::move(source).error().in(path.string());
}

Result<std::unique_ptr<ModelSource>> ModelSource::from(gguf::File file) {
  std::unique_ptr<ModelSource> source(new ModelSource);
  source->file_ = std::move(file);
  QUERN_TRY_STATUS(source->read_gguf_identity());
  return source;
}

Result<std::unique_ptr<ModelSource>> ModelSource::from(safetensors::Folder folder) {
  std::unique_ptr<ModelSource> source(new ModelSource);
  source->folder_ = std::move(folder);
  QUERN_TRY_STATUS(source->read_folder_identity());
  return source;
}

Result<std::unique_ptr<ModelSource>> ModelSource::imagined(gguf::File metadata) {
  QUERN_TRY(auto source, from(std::move(metadata)));
  source->asked_ = std::make_unique<std::vector<Asked>>();
  return source;
}

Status ModelSource::read_gguf_identity() {
  if (const gguf::Value* type = file_->find("general.type")) {
    const auto found = type->string();
    if (!found || *found != "model")
      return make_error(ErrorCode::unsupported, "general.type: expected \"model\", found {}",
                        found ? json_quote(found->substr(0, 60)) : "no text");
  }
  QUERN_TRY(const std::string_view architecture, file_->string("general.architecture"));
  architecture_ = architecture;
  return {};
}

Status ModelSource::read_folder_identity() {
  const Json& whole = folder_->config();
  const Json* text = whole.find("text_config");
  config_ = text && text->is_object() ? text : &whole;
  const Json* type = whole.find("model_type");
  if (!type || !type->is_string())
    return make_error(type ? ErrorCode::corrupt_data : ErrorCode::not_found,
                      "config.json: model_type: expected a string, found {}",
                      type ? type->dump().substr(0, 60) : "no such key");
  architecture_ = type->string();
  if (const Json* quantization = config("quantization_config")) {
    const Json* method = quantization->find("quant_method");
    return make_error(ErrorCode::unsupported,
                      "config.json: quantization_config: expected none (F32, F16 or BF16 weights), found {}",
                      method ? method->dump().substr(0, 60) : "one");
  }
  for (std::string_view prefix : kPrefixes)
    if (folder_->find(std::string(prefix) + "embed_tokens.weight")) {
      hf_prefix_ = prefix;
      return {};
    }
  hf_prefix_ = "model.";
  return {};
}

std::vector<std::filesystem::path> ModelSource::paths() const {
  if (!is_gguf()) return folder_->weight_paths();
  return {file_->paths().begin(), file_->paths().end()};
}

int64_t ModelSource::elements() const {
  int64_t n = 0;
  if (is_gguf())
    for (const gguf::Tensor& tensor : file_->tensors()) n += tensor.view.shape.elements();
  else
    for (const safetensors::Tensor& tensor : folder_->tensors()) n += tensor.view.shape.elements();
  return n;
}

std::string ModelSource::hf_name(std::string_view pattern, int layer) const {
  constexpr std::string_view kModel = "model.";
  if (pattern.starts_with(kModel)) return hf_prefix_ + with_layer(pattern.substr(kModel.size()), layer);
  std::string name = with_layer(pattern, layer);
  if (!folder_->find(name) && folder_->find("language_model." + name)) return "language_model." + name;
  return name;
}

std::string ModelSource::name(TensorName name, int layer) const {
  return is_gguf() ? with_layer(name.gguf, layer) : hf_name(name.hf, layer);
}

const TensorView* ModelSource::find_tensor(TensorName name, int layer) const {
  if ((is_gguf() ? name.gguf : name.hf).empty()) return nullptr;
  if (is_gguf()) return file_->find_tensor(with_layer(name.gguf, layer));
  const safetensors::Tensor* tensor = folder_->find(hf_name(name.hf, layer));
  return tensor ? &tensor->view : nullptr;
}

Result<std::optional<TensorView>> ModelSource::find_tensor(TensorName name, int layer, const Shape& shape) const {
  if (asked_ && !name.gguf.empty()) {
    asked_->push_back({this->name(name, layer), shape});
    return std::optional(TensorView{&quant_f32, shape, {}});
  }
  const TensorView* found = find_tensor(name, layer);
  if (!found) return std::optional<TensorView>();
  if (!same_shape(found->shape, shape))
    return make_error(ErrorCode::corrupt_data, "{}: shape {}, expected {}", this->name(name, layer),
                      found->shape.text(), shape.text());
  if (!found->type) {
    const safetensors::Tensor* tensor = folder_ ? folder_->find(hf_name(name.hf, layer)) : nullptr;
    return make_error(ErrorCode::unsupported, "{}: expected weights of type F32, F16 or BF16, found {}",
                      this->name(name, layer), tensor ? tensor->dtype : "another");
  }
  // Without its dimensions of 1 a tensor may have other columns than it was quantized along.
  if (shape.columns() % found->type->block_elems)
    return make_error(ErrorCode::corrupt_data, "{}: expected rows in whole blocks of {} ({}), found {} columns",
                      this->name(name, layer), found->type->block_elems, found->type->name, shape.columns());
  TensorView view = *found;
  view.shape = shape;  // without its dimensions of 1
  return std::optional(view);
}

Result<TensorView> ModelSource::tensor(TensorName name, int layer, const Shape& shape) const {
  QUERN_TRY(const auto found, find_tensor(name, layer, shape));
  if (!found)
    return make_error(ErrorCode::not_found, "{}: expected a tensor of shape {}, found none", this->name(name, layer),
                      shape.text());
  return *found;
}

}  // namespace quern
