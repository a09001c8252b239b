"""Tensor names of DeepSeek-V4: transformers' in memory, and those of the published checkpoints."""

import re

import torch

# What transformers calls a tensor inside `model.layers.N.` -> what the published checkpoint calls it inside `layers.N.`
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attn_hc.fn": "hc_attn_fn",
    "attn_hc.base": "hc_attn_base",
    "attn_hc.scale": "hc_attn_scale",
    "ffn_hc.fn": "hc_ffn_fn",
    "ffn_hc.base": "hc_ffn_base",
    "ffn_hc.scale": "hc_ffn_scale",
    "self_attn.sinks": "attn.attn_sink",
    "self_attn.q_a_proj": "attn.wq_a",
    "self_attn.q_a_norm": "attn.q_norm",
    "self_attn.q_b_proj": "attn.wq_b",
    "self_attn.kv_proj": "attn.wkv",
    "self_attn.kv_norm": "attn.kv_norm",
    "self_attn.o_a_proj": "attn.wo_a",
    "self_attn.o_b_proj": "attn.wo_b",
    "self_attn.compressor.kv_proj": "attn.compressor.wkv",
    "self_attn.compressor.gate_proj": "attn.compressor.wgate",
    "self_attn.compressor.position_bias": "attn.compressor.ape",
    "self_attn.compressor.kv_norm": "attn.compressor.norm",
    "self_attn.compressor.indexer.q_b_proj": "attn.indexer.wq_b",
    "self_attn.compressor.indexer.scorer.weights_proj": "attn.indexer.weights_proj",
    "self_attn.compressor.indexer.kv_proj": "attn.indexer.compressor.wkv",
    "self_attn.compressor.indexer.gate_proj": "attn.indexer.compressor.wgate",
    "self_attn.compressor.indexer.position_bias": "attn.indexer.compressor.ape",
    "self_attn.compressor.indexer.kv_norm": "attn.indexer.compressor.norm",
    "mlp.gate": "ffn.gate",
    "mlp.gate.e_score_correction_bias": "ffn.gate.bias",
    "mlp.gate.tid2eid": "ffn.gate.tid2eid",
    "mlp.shared_experts.gate_proj": "ffn.shared_experts.w1",
    "mlp.shared_experts.down_proj": "ffn.shared_experts.w2",
    "mlp.shared_experts.up_proj": "ffn.shared_experts.w3",
}
TOP_NAMES = {
    "model.embed_tokens": "embed",
    "model.norm": "norm",
    "model.hc_head.hc_fn": "hc_head_fn",
    "model.hc_head.hc_base": "hc_head_base",
    "model.hc_head.hc_scale": "hc_head_scale",
    "lm_head": "head",
}
# Of the MTP block: a layer, and these beside it. (transformers has none; in memory the scripts call it `mtp.0`.)
MTP_NAMES = {
    "enorm": "enorm",
    "hnorm": "hnorm",
    "e_proj": "e_proj",
    "h_proj": "h_proj",
    "norm": "norm",
    "hc_head.hc_fn": "hc_head_fn",
    "hc_head.hc_base": "hc_head_base",
    "hc_head.hc_scale": "hc_head_scale",
}


def official(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under the names, and with the experts apart, as the published checkpoints have them."""
    result = {}
    for name, tensor in tensors.items():
        stem = name.removesuffix(".weight")
        suffix = name[len(stem):]
        layer = re.fullmatch(r"(?:model\.(layers\.\d+)|(mtp\.\d+)\.layer)\.(.*)", stem)
        mtp = re.fullmatch(r"(mtp\.\d+)\.(.*)", stem)
        if layer is None:
            result[(f"{mtp[1]}.{MTP_NAMES[mtp[2]]}" if mtp else TOP_NAMES[stem]) + suffix] = tensor
            continue
        prefix = layer[1] or layer[2]
        if layer[3] == "mlp.experts.gate_up_proj":
            for expert, gate_up in enumerate(tensor):
                gate, up = gate_up.chunk(2)
                result[f"{prefix}.ffn.experts.{expert}.w1.weight"] = gate
                result[f"{prefix}.ffn.experts.{expert}.w3.weight"] = up
        elif layer[3] == "mlp.experts.down_proj":
            for expert, down in enumerate(tensor):
                result[f"{prefix}.ffn.experts.{expert}.w2.weight"] = down
        else:
            result[f"{prefix}.{LAYER_NAMES[layer[3]]}{suffix}"] = tensor
    return result


def keeps_float32(name: str) -> bool:
    """Whether published checkpoints store the tensor (transformers' name) in float32 though the rest is bfloat16."""
    return bool(re.search(r"(hc[._](fn|base|scale)|sinks|position_bias|e_score_correction_bias)$", name))
