// What config.json says of how the weights are stored.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/tensor_type.h"

namespace flyover::checkpoint {

/// Makes `config` tell that plain weights are of type `plain` (as "dtype" if it has that, else "torch_dtype"), and
/// takes "quantization_config" and "expert_dtype" from `storage`: where that has none, `config` loses its own. But
/// where `storage` is all plain, "expert_dtype" stays: it also says how the model was trained, and with it how its
/// indexers compute (see models::deepseek_v4::Config), which no writing of weights changes. Beside a
/// "quantization_config" it must not stay, because other programs would take experts in FP8 for FP4.
void set_storage(base::Json& config, TensorType plain, const base::Json& storage);

/// The two keys for FP8 weights in blocks of 128 x 128 with scales of this type, beside which `plain_modules` (see
/// models::plain_modules) are plain; with FP4 experts if `fp4_experts`.
base::Json quantised_storage_keys(TensorType scales, bool fp4_experts, const std::vector<std::string>& plain_modules);

}  // namespace flyover::checkpoint
