#!/usr/bin/env python3
"""Writes small random DeepSeek-V3 checkpoints and what transformers computes for them, into deepseek_v3/ beside it.

Each case is a Hugging Face directory (config.json, safetensors) plus expected.safetensors with

  tokens                  [tokens] int64
  logits                  [tokens, vocabulary] float32
  loss                    [] float32, mean cross-entropy of the next token
  gradient.<name>         float32, d loss / d parameter, under the parameter's name and shape in the checkpoint (the
                          correction bias has none)
  hidden.<layer>          [tokens, hidden] float32, what the layer gives to the next one
  experts.<layer>         [tokens, experts per token] int64, the chosen experts, ascending (layers with a router)
  expert_weights.<layer>  [tokens, experts per token] float32, the mixing weights of those experts, in the same order

The case `packed` holds two documents, each computed on its own: `tokens.0`, `logits.0`, `tokens.1`, `logits.1`; the loss is
the mean over the targets of both, and what is stored per layer runs over the tokens of both. Everything expected is
computed in float64 and rounded to float32 once; reference.json records the versions, how far transformers' own float32
is from that, and the smallest distance between a chosen and a rejected score, of groups and of experts.

Usage: make_deepseek_v3_parity.py [--output DIRECTORY]
"""

import pathlib

import moe_parity
import parity
import torch
from moe_parity import Case
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.models.deepseek_v3 import modeling_deepseek_v3


def margin(router: modeling_deepseek_v3.DeepseekV3TopkRouter, hidden: torch.Tensor) -> float:
    """The nearest that a rejected group comes to a chosen one, or a rejected expert of a chosen group to a chosen one."""
    scores = torch.nn.functional.linear(hidden.flatten(0, -2), router.weight).sigmoid() + router.e_score_correction_bias
    grouped = scores.unflatten(-1, (router.num_group, -1))
    group_scores = grouped.topk(2, -1).values.sum(-1)
    best = group_scores.sort(-1, descending=True)
    distances = [torch.tensor(1.0)]
    if router.topk_group < router.num_group:
        distances.append((best.values[:, router.topk_group - 1] - best.values[:, router.topk_group]).min())
    chosen = best.indices[:, :router.topk_group, None].expand(-1, -1, grouped.shape[-1])
    candidates = grouped.gather(1, chosen).flatten(1).sort(-1, descending=True).values
    if router.top_k < candidates.shape[1]:
        distances.append((candidates[:, router.top_k - 1] - candidates[:, router.top_k]).min())
    return min(distance.item() for distance in distances)


FAMILY = moe_parity.Family(
    DeepseekV3Config, DeepseekV3ForCausalLM, modeling_deepseek_v3, modeling_deepseek_v3.DeepseekV3DecoderLayer,
    (modeling_deepseek_v3.DeepseekV3TopkRouter,), margin,
    defaults=dict(max_position_embeddings=64, bos_token_id=0, eos_token_id=1, rms_norm_eps=1e-6,
                  rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
)


def published(config: dict, torch_dtype: str) -> dict:
    """config.json with the keys that DeepSeek-V3 came with; the RoPE scaling is spelled `type` there."""
    rope = dict(config["rope_parameters"])
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
    return {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 64, "moe_layer_freq": 1, "num_nextn_predict_layers": 1,
        "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": {"type": kind, **rope}, "rope_theta": theta,
        "scoring_func": "sigmoid", "seq_aux": True, "tie_word_embeddings": False, "topk_method": "noaux_tc",
        "torch_dtype": torch_dtype, "transformers_version": "4.33.1", "use_cache": True,
        **{key: value for key, value in config.items() if key != "rope_parameters"},
    }


GROUPED = dict(
    vocab_size=43, hidden_size=24, intermediate_size=40, moe_intermediate_size=6, num_hidden_layers=2,
    num_attention_heads=3, num_key_value_heads=3, q_lora_rank=14, kv_lora_rank=10, qk_nope_head_dim=10,
    qk_rope_head_dim=8, v_head_dim=6, first_k_dense_replace=1, n_routed_experts=8, n_shared_experts=1,
    num_experts_per_tok=3, n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5,
    max_position_embeddings=640,
    rope_parameters={"rope_type": "yarn", "rope_theta": 100.0, "factor": 40, "beta_fast": 32, "beta_slow": 1,
                     "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16},
)

CASES = [
    Case("grouped", GROUPED, documents=[37], dtype=torch.bfloat16, published=published(GROUPED, "bfloat16")),
    Case(
        "no_query_rank",
        dict(vocab_size=37, hidden_size=24, intermediate_size=40, moe_intermediate_size=5, num_hidden_layers=1,
             num_attention_heads=4, num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=12, qk_nope_head_dim=6,
             qk_rope_head_dim=4, v_head_dim=10, first_k_dense_replace=0, n_routed_experts=6, n_shared_experts=2,
             num_experts_per_tok=2, n_group=1, topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.0),
        documents=[29],
    ),
    Case(
        "two_mscales",
        dict(vocab_size=41, hidden_size=24, intermediate_size=40, moe_intermediate_size=5, num_hidden_layers=2,
             num_attention_heads=2, num_key_value_heads=2, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=8,
             qk_rope_head_dim=8, v_head_dim=8, first_k_dense_replace=0, n_routed_experts=6, n_shared_experts=2,
             num_experts_per_tok=2, n_group=2, topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.5,
             max_position_embeddings=128,
             rope_parameters={"rope_type": "yarn", "rope_theta": 50.0, "factor": 8.0, "beta_fast": 4, "beta_slow": 1,
                              "mscale": 1.5, "mscale_all_dim": 0.7, "original_max_position_embeddings": 16}),
        documents=[33], dtype=torch.bfloat16,
    ),
    Case(
        "halves_rotated",
        dict(vocab_size=37, hidden_size=24, intermediate_size=28, moe_intermediate_size=5, num_hidden_layers=3,
             num_attention_heads=3, num_key_value_heads=3, q_lora_rank=10, kv_lora_rank=8, qk_nope_head_dim=4,
             qk_rope_head_dim=6, v_head_dim=8, first_k_dense_replace=2, n_routed_experts=6, n_shared_experts=1,
             num_experts_per_tok=3, n_group=3, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5,
             rope_interleave=False),
        documents=[31], dtype=torch.bfloat16, shard_bytes=16_000,
    ),
    Case(
        "packed",
        dict(vocab_size=37, hidden_size=24, intermediate_size=28, moe_intermediate_size=5, num_hidden_layers=2,
             num_attention_heads=3, num_key_value_heads=3, q_lora_rank=10, kv_lora_rank=8, qk_nope_head_dim=6,
             qk_rope_head_dim=4, v_head_dim=8, first_k_dense_replace=1, n_routed_experts=8, n_shared_experts=1,
             num_experts_per_tok=2, n_group=2, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.5),
        documents=[19, 12], dtype=torch.bfloat16,
    ),
]


def make(case: Case, index: int, root: pathlib.Path) -> dict:
    return moe_parity.make(FAMILY, case, 50_000 + 1000 * index, root)


if __name__ == "__main__":
    parity.run(__doc__, pathlib.Path(__file__).parent / "deepseek_v3", CASES, make)
