#include "checkpoint/storage_config.h"

#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::checkpoint {

void set_storage(base::Json& config, TensorType plain, const base::Json& storage) {
  const char* const name = plain == TensorType::kF32 ? "float32" : plain == TensorType::kF16 ? "float16" : "bfloat16";
  base::check(plain == TensorType::kF32 || plain == TensorType::kF16 || plain == TensorType::kBf16,
              "weights of type {}", name_of(plain));
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = name;
  const bool quantised = storage.contains("quantization_config");
  for (const char* const key : {"quantization_config", "expert_dtype"}) {
    if (storage.contains(key)) {
      config[key] = storage[key];
    } else if (quantised || key != std::string_view("expert_dtype")) {
      config.erase(key);
    }
  }
}

base::Json quantised_storage_keys(TensorType scales, bool fp4_experts, const std::vector<std::string>& plain_modules) {
  base::Json keys;
  keys["quantization_config"] = {
      {"activation_scheme", "dynamic"}, {"fmt", "e4m3"}, {"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  if (scales == TensorType::kF8E8M0) {
    keys["quantization_config"]["scale_fmt"] = "ue8m0";
  }
  if (!plain_modules.empty()) {
    keys["quantization_config"]["modules_to_not_convert"] = plain_modules;
  }
  if (fp4_experts) {
    keys["expert_dtype"] = "fp4";
  }
  return keys;
}

}  // namespace flyover::checkpoint
