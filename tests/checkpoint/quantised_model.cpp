#include "checkpoint/quantised_model.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/random.h"
#include "checkpoint/handmade_files.h"
#include "models/released_weights.h"

namespace flyover::checkpoint {
namespace {

using models::ReleasedAs;

std::int64_t divided_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// count bytes that accept() lets through.
std::string random_bytes(const base::Random& random, std::int64_t count, std::uint64_t first, std::uint64_t bound,
                         std::uint64_t position = 0) {
  std::string bytes;
  for (std::int64_t i = 0; i < count; ++i) {
    bytes.push_back(static_cast<char>(first + random.below(position + static_cast<std::uint64_t>(i), bound)));
  }
  return bytes;
}

template <typename Element, typename Make>
std::string packed(std::int64_t count, Make make) {
  std::string bytes(static_cast<std::size_t>(count) * sizeof(Element), '\0');
  for (std::int64_t i = 0; i < count; ++i) {
    const Element element = make(static_cast<std::uint64_t>(i));
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * sizeof(Element), &element, sizeof(Element));
  }
  return bytes;
}

/// The leading half of each number.
std::string as_bf16(std::int64_t count, const std::function<float(std::uint64_t)>& make) {
  return packed<std::uint16_t>(
      count, [&](std::uint64_t i) { return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(make(i)) >> 16); });
}

void add_scales(HandmadeModel& model, const std::string& weight, ReleasedAs stored,
                const std::vector<std::int64_t>& blocks, const base::Random& random) {
  const std::int64_t count = blocks[0] * blocks[1];
  const auto scale = [&](std::uint64_t i) { return static_cast<float>(0.002 + 0.01 * random.uniform((1 << 20) + i)); };
  if (stored == ReleasedAs::kFp8 || stored == ReleasedAs::kFp4) {
    const std::string name = weight.substr(0, weight.size() - std::string("weight").size()) + "scale";
    model[name] = {{name, TensorType::kF8E8M0, blocks}, random_bytes(random, count, 112, 12, 1 << 20)};
  } else if (stored == ReleasedAs::kFp8WithF32Scales) {
    model[weight + "_scale_inv"] = {{weight + "_scale_inv", TensorType::kF32, blocks}, packed<float>(count, scale)};
  } else {
    model[weight + "_scale_inv"] = {{weight + "_scale_inv", TensorType::kBf16, blocks}, as_bf16(count, scale)};
  }
}

void add_quantised(HandmadeModel& model, const std::string& name, ReleasedAs stored, std::int64_t rows,
                   std::int64_t columns, const base::Random& random) {
  const bool fp4 = stored == ReleasedAs::kFp4;
  const std::vector<std::int64_t> blocks =
      fp4 ? std::vector{rows, columns / 32} : std::vector{divided_up(rows, 128), divided_up(columns, 128)};
  add_scales(model, name, stored, blocks, random);
  if (fp4) {
    model[name] = {{name, TensorType::kI8, {rows, columns / 2}}, random_bytes(random, rows * columns / 2, 0, 256)};
    return;
  }
  std::string codes = random_bytes(random, rows * columns, 0, 256);
  for (char& code : codes) {
    code = (code & 0x7F) == 0x7F ? '\x38' : code;  // no NaN
  }
  model[name] = {{name, TensorType::kF8E4M3, {rows, columns}}, codes};
}

}  // namespace

std::string quantised_config(const std::string& family) {
  if (family == "deepseek_v3") {
    return R"({"model_type": "deepseek_v3", "torch_dtype": "bfloat16", "vocab_size": 13, "hidden_size": 140,
      "intermediate_size": 20, "moe_intermediate_size": 12, "num_hidden_layers": 2, "first_k_dense_replace": 1,
      "num_attention_heads": 2, "q_lora_rank": 10, "kv_lora_rank": 130, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
      "v_head_dim": 5, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2,
      "topk_group": 1, "routed_scaling_factor": 1.0, "num_nextn_predict_layers": 1, "quantization_config":
      {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}})";
  }
  if (family == "qwen3_moe") {
    return R"({"model_type": "qwen3_moe", "torch_dtype": "bfloat16", "vocab_size": 13, "hidden_size": 140,
      "intermediate_size": 20, "moe_intermediate_size": 12, "num_hidden_layers": 2, "mlp_only_layers": [0],
      "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 34, "num_experts": 4, "num_experts_per_tok": 2,
      "norm_topk_prob": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
      "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
      "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "model.layers.1.mlp.gate"]}})";
  }
  return R"({"model_type": "deepseek_v4", "torch_dtype": "bfloat16", "vocab_size": 40, "hidden_size": 160,
    "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 48, "qk_rope_head_dim": 8, "q_lora_rank": 24,
    "o_groups": 2, "o_lora_rank": 20, "sliding_window": 8, "compress_ratios": [0, 4, 128, 0], "index_n_heads": 2,
    "index_head_dim": 32, "index_topk": 4, "n_routed_experts": 5, "num_experts_per_tok": 2,
    "moe_intermediate_size": 64, "num_hash_layers": 1, "routed_scaling_factor": 1.5, "swiglu_limit": 10.0,
    "hc_mult": 2, "hc_sinkhorn_iters": 20, "rms_norm_eps": 1e-6, "num_nextn_predict_layers": 1,
    "expert_dtype": "fp4", "quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
    "activation_scheme": "dynamic", "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}, "unknown_key": [1]})";
}

HandmadeModel quantised_model(std::uint64_t seed, bool copies, const std::string& config) {
  HandmadeModel model;
  std::uint64_t index = 0;
  for (const models::ReleasedWeight& weight :
       models::released_weights(base::parse_json(config, "config.json"), "config.json")) {
    const base::Random random(seed, base::RandomPurpose::kTest, index++);
    const std::int64_t count = weight.shape.elements();
    const std::vector<std::int64_t> shape(weight.shape.values().begin(), weight.shape.values().end());
    switch (weight.stored) {
      case ReleasedAs::kFp8:
      case ReleasedAs::kFp8WithF32Scales:
      case ReleasedAs::kFp8WithBf16Scales:
      case ReleasedAs::kFp4:
        add_quantised(model, weight.name, weight.stored, shape[0], shape[1], random);
        break;
      case ReleasedAs::kBf16:
        model[weight.name] = {{weight.name, TensorType::kBf16, shape},
                              as_bf16(count, [&](std::uint64_t i) { return static_cast<float>(random.normal(i)); })};
        break;
      case ReleasedAs::kF32:
        model[weight.name] = {{weight.name, TensorType::kF32, shape}, packed<float>(count, [&](std::uint64_t i) {
                                return static_cast<float>(random.normal(i));
                              })};
        break;
      case ReleasedAs::kI64:
        model[weight.name] = {{weight.name, TensorType::kI64, shape}, packed<std::int64_t>(count, [](std::uint64_t i) {
                                return static_cast<std::int64_t>(i % 5);
                              })};
    }
  }
  const auto repeat = [&](const std::string& name, const std::string& original) {
    model[name] = model.at(original);
    model[name].spec.name = name;
  };
  if (copies) {
    repeat("mtp.0.emb.tok_emb.weight", "embed.weight");
    repeat("mtp.0.head.weight", "head.weight");
  }
  for (const auto& [name, tensor] : model) {
    if (name.ends_with(".shared_head.head.weight")) {  // of DeepSeek-V3, which always has them
      repeat(name, "lm_head.weight");
    } else if (name.starts_with("model.layers.") && name.ends_with(".embed_tokens.weight")) {
      repeat(name, "model.embed_tokens.weight");
    }
  }
  return model;
}

void write_handmade(const std::filesystem::path& directory, const HandmadeModel& model, bool shards,
                    const std::string& config) {
  std::filesystem::create_directories(directory);
  put_file(directory / "config.json", config);
  nlohmann::json map;
  const std::size_t files = shards ? 2 : 1;
  for (std::size_t file = 0; file < files; ++file) {
    nlohmann::json header = nlohmann::json::object();
    std::string data;
    std::size_t index = 0;
    const std::string name = shards ? fmt::format("part-{}.safetensors", file) : "model.safetensors";
    for (const auto& [key, tensor] : model) {
      if (index++ % files == file) {
        header[key] = {{"dtype", name_of(tensor.spec.dtype)},
                       {"shape", tensor.spec.shape},
                       {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
        data += tensor.bytes;
        map[key] = name;
      }
    }
    put_file(directory / name, safetensors_bytes(header.dump(), data));
  }
  if (shards) {
    put_file(directory / "model.safetensors.index.json", nlohmann::json{{"weight_map", map}}.dump());
  }
}

double fp4_value(int code) {
  constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (code & 8) != 0 ? -kValues[code & 7] : kValues[code & 7];
}

double fp8_value(int code) {
  const int exponent = (code >> 3) & 15, fraction = code & 7;
  const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (code & 0x80) != 0 ? -size : size;
}

double scale_value(int byte) {
  return std::ldexp(1.0, byte - 127);
}

std::vector<double> handmade_values(const HandmadeModel& model, const std::string& weight) {
  const HandmadeTensor& tensor = model.at(weight);
  const auto byte = [](const std::string& bytes, std::int64_t i) {
    return static_cast<int>(static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]));
  };
  const auto element = [&]<typename T>(T value, std::size_t i) {
    std::memcpy(&value, tensor.bytes.data() + i * sizeof(T), sizeof(T));
    return value;
  };
  std::vector<double> values;
  const std::size_t count = tensor.bytes.size() / size_of(tensor.spec.dtype);
  if (tensor.spec.dtype == TensorType::kF32 || tensor.spec.dtype == TensorType::kI64) {
    for (std::size_t i = 0; i < count; ++i) {
      values.push_back(tensor.spec.dtype == TensorType::kF32 ? static_cast<double>(element(0.0f, i))
                                                             : static_cast<double>(element(std::int64_t{0}, i)));
    }
    return values;
  }
  if (tensor.spec.dtype == TensorType::kBf16) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(element(std::uint16_t{0}, i)) << 16;
      float value = 0;
      std::memcpy(&value, &bits, sizeof(value));
      values.push_back(value);
    }
    return values;
  }
  const std::string stem = weight.substr(0, weight.size() - std::string("weight").size());
  const auto published = model.find(stem + "scale");
  const HandmadeTensor& scales = published != model.end() ? published->second : model.at(weight + "_scale_inv");
  const bool fp4 = tensor.spec.dtype == TensorType::kI8;
  const std::int64_t rows = tensor.spec.shape[0], columns = tensor.spec.shape[1] * (fp4 ? 2 : 1);
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const std::int64_t row = i / columns, column = i % columns;
    const std::int64_t block =
        fp4 ? row * (columns / 32) + column / 32 : row / 128 * divided_up(columns, 128) + column / 128;
    double scale = 0;
    if (scales.spec.dtype == TensorType::kF32) {
      float stored = 0;
      std::memcpy(&stored, scales.bytes.data() + static_cast<std::size_t>(block) * sizeof(stored), sizeof(stored));
      scale = stored;
    } else if (scales.spec.dtype == TensorType::kBf16) {
      std::uint16_t stored = 0;
      std::memcpy(&stored, scales.bytes.data() + static_cast<std::size_t>(block) * sizeof(stored), sizeof(stored));
      scale = std::bit_cast<float>(static_cast<std::uint32_t>(stored) << 16);
    } else {
      scale = scale_value(byte(scales.bytes, block));
    }
    const int code = fp4 ? (byte(tensor.bytes, i / 2) >> (column % 2 * 4)) & 15 : byte(tensor.bytes, i);
    values.push_back((fp4 ? fp4_value(code) : fp8_value(code)) * scale);
  }
  return values;
}

}  // namespace flyover::checkpoint
