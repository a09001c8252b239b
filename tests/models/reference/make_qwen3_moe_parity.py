#!/usr/bin/env python3
"""Writes small random Qwen3-MoE checkpoints and what transformers computes for them, into qwen3_moe/ beside this file.

Each case is a Hugging Face directory (config.json, safetensors) plus expected.safetensors with

  tokens                  [tokens] int64
  logits                  [tokens, vocabulary] float32
  loss                    [] float32, mean cross-entropy of the next token
  gradient.<name>         float32, d loss / d parameter, under the parameter's name and shape in the checkpoint
  hidden.<layer>          [tokens, hidden] float32, what the layer gives to the next one
  experts.<layer>         [tokens, experts per token] int64, the router's choice, ascending (layers with a router)
  expert_weights.<layer>  [tokens, experts per token] float32, the mixing weights of those experts, in the same order

The case `packed` holds two documents, each computed on its own: `tokens.0`, `logits.0`, `tokens.1`, `logits.1`; the loss is
the mean over the targets of both, and what is stored per layer runs over the tokens of both. Everything expected is
computed in float64 and rounded to float32 once; reference.json records the versions, how far transformers' own float32 is
from that, and the smallest distance between a chosen and a rejected router score.

Usage: make_qwen3_moe_parity.py [--output DIRECTORY]
"""

import pathlib

import moe_parity
import parity
import torch
from moe_parity import Case
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3_moe import modeling_qwen3_moe


def margin(router: modeling_qwen3_moe.Qwen3MoeTopKRouter, hidden: torch.Tensor) -> float:
    scores = torch.nn.functional.linear(hidden, router.weight).softmax(-1).sort(-1, descending=True).values
    return (scores[:, router.top_k - 1] - scores[:, router.top_k]).min().item()


FAMILY = moe_parity.Family(
    Qwen3MoeConfig, Qwen3MoeForCausalLM, modeling_qwen3_moe, modeling_qwen3_moe.Qwen3MoeDecoderLayer,
    (modeling_qwen3_moe.Qwen3MoeTopKRouter,), margin,
    defaults=dict(max_position_embeddings=64, bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-6,
                  rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
)


def published(config: dict, torch_dtype: str, rope_scaling: dict | None = None) -> dict:
    """config.json with the keys, and the null ones, that Qwen3-30B-A3B came with."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "decoder_sparse_step": 1, "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 64, "max_window_layers": config["num_hidden_layers"],
        "mlp_only_layers": [], "norm_topk_prob": True, "output_router_logits": False, "rms_norm_eps": 1e-06,
        "rope_scaling": rope_scaling, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": None,
        "tie_word_embeddings": False, "torch_dtype": torch_dtype, "transformers_version": "4.51.0", "use_cache": True,
        "use_sliding_window": False, **{key: value for key, value in config.items() if key != "rope_parameters"},
    }


NORMALISED = dict(vocab_size=32, hidden_size=24, intermediate_size=60, moe_intermediate_size=6, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=10, num_experts=8, num_experts_per_tok=2,
                  norm_topk_prob=True, tie_word_embeddings=False)
DENSE_BETWEEN = dict(vocab_size=37, hidden_size=24, intermediate_size=20, moe_intermediate_size=5, num_hidden_layers=3,
                     num_attention_heads=6, num_key_value_heads=3, head_dim=6, num_experts=5, num_experts_per_tok=3,
                     norm_topk_prob=True, mlp_only_layers=[1], tie_word_embeddings=False)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

CASES = [
    Case("normalised", NORMALISED, documents=[37], published=published(NORMALISED, "float32")),
    Case(
        "unnormalised_tied",
        dict(vocab_size=41, hidden_size=28, intermediate_size=48, moe_intermediate_size=6, num_hidden_layers=2,
             num_attention_heads=5, num_key_value_heads=1, head_dim=8, num_experts=6, num_experts_per_tok=3,
             norm_topk_prob=False, tie_word_embeddings=True, rms_norm_eps=1e-5,
             rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        documents=[29], dtype=torch.bfloat16, shard_bytes=16_000,
    ),
    Case("mlp_only_layers", DENSE_BETWEEN, documents=[31], dtype=torch.bfloat16,
         published=published(DENSE_BETWEEN, "bfloat16")),
    Case(
        "decoder_sparse_step",
        dict(vocab_size=32, hidden_size=24, intermediate_size=16, moe_intermediate_size=6, num_hidden_layers=4,
             num_attention_heads=3, num_key_value_heads=1, head_dim=8, num_experts=6, num_experts_per_tok=2,
             norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[3], tie_word_embeddings=False),
        documents=[26], dtype=torch.bfloat16,
    ),
    Case(
        "one_expert_yarn_bias",
        dict(vocab_size=32, hidden_size=24, intermediate_size=36, moe_intermediate_size=6, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, head_dim=10, num_experts=5, num_experts_per_tok=1,
             norm_topk_prob=False, attention_bias=True, tie_word_embeddings=False,
             rope_parameters={"rope_theta": 100.0, **YARN}),
        documents=[33], dtype=torch.bfloat16,
    ),
    Case(
        "packed",
        dict(vocab_size=32, hidden_size=24, intermediate_size=28, moe_intermediate_size=5, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=6, num_experts_per_tok=2,
             norm_topk_prob=True, tie_word_embeddings=True),
        documents=[19, 12], dtype=torch.bfloat16,
    ),
]


def make(case: Case, index: int, root: pathlib.Path) -> dict:
    return moe_parity.make(FAMILY, case, 30_000 + 1000 * index, root)


if __name__ == "__main__":
    parity.run(__doc__, pathlib.Path(__file__).parent / "qwen3_moe", CASES, make)
