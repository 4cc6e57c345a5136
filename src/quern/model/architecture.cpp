// SPDX-License-Identifier: Apache-2.0
#include "quern/model/architecture.h"

#include <algorithm>
#include <string>

namespace quern {

Result<const Architecture*> find_architecture(const ModelSource& source) {
  const std::string& wanted = source.architecture();
  std::string known;
  for (int i = 0; i < arch_table_size; ++i) {
    const Architecture* arch = arch_table[i];
    if (source.is_gguf()) {
      if (arch->name == wanted) return arch;
      known += fmt::format("{}{}", known.empty() ? "" : ", ", arch->name);
    } else {
      if (std::ranges::find(arch->hf_model_types, std::string_view(wanted)) != arch->hf_model_types.end()) return arch;
      for (std::string_view type : arch->hf_model_types) known += fmt::format("{}{}", known.empty() ? "" : ", ", type);
    }
  }
  return make_error(ErrorCode::unsupported, "{}: expected one of {}, found {}",
                    source.is_gguf() ? "general.architecture" : "config.json: model_type", known,
                    json_quote(wanted.substr(0, 60)));
}

Result<std::unique_ptr<Model>> load_model(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY(const Architecture* arch, find_architecture(source));
  return arch->load(source, context);
}

Result<std::unique_ptr<Model>> load_outline(const ModelSource& source, Isa isa) {
  Pool pool(1);
  const auto go_on = [](int64_t, int64_t) { return true; };
  return load_model(source, {kernel_table(isa), pool, go_on, Weights::outline});
}

}  // namespace quern
