#!/usr/bin/env python3
"""Writes small random Llama checkpoints and what transformers computes for them, into llama/ beside this file.

Each case is a Hugging Face directory (config.json, safetensors) plus expected.safetensors with

  tokens                 [tokens] int64
  logits                 [tokens, vocabulary] float32
  loss                   [] float32, mean cross-entropy of the next token
  gradient.<name>        float32, d loss / d parameter, under the parameter's name and shape in the checkpoint

The case `packed` holds two documents, each computed on its own: `tokens.0`, `logits.0`, `tokens.1`, `logits.1`, and one
loss: the mean over the targets of both. Everything expected is computed in float64 and rounded to float32 once;
reference.json records the versions and how far transformers' own float32 is from that.

Usage: make_llama_parity.py [--output DIRECTORY]
"""

import json
import pathlib
from dataclasses import dataclass, field

import parity
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama


@dataclass
class Case:
    """One checkpoint: what config.json says, how it is stored, and how many tokens each document has."""

    name: str
    config: dict
    documents: list[int]
    dtype: torch.dtype = torch.float32
    shard_bytes: int | None = None  # None = one file
    # Keys that older configurations, and most published checkpoints, write instead of rope_parameters and dtype.
    older_keys: dict = field(default_factory=dict)


CASES = [
    Case(
        "gqa",
        dict(vocab_size=97, hidden_size=72, intermediate_size=76, num_hidden_layers=1, num_attention_heads=6,
             num_key_value_heads=3, rms_norm_eps=1e-6, tie_word_embeddings=False,
             rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        documents=[13],
    ),
    Case(
        "mha_tied",
        dict(vocab_size=61, hidden_size=40, intermediate_size=100, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=4, rms_norm_eps=1e-5, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
        documents=[37],
        older_keys={"torch_dtype": "float32", "rope_theta": 500.0, "rope_scaling": None},
    ),
    Case(
        "mqa_head_dim",
        dict(vocab_size=131, hidden_size=40, intermediate_size=44, num_hidden_layers=1, num_attention_heads=5,
             num_key_value_heads=1, head_dim=14, rms_norm_eps=1e-5, tie_word_embeddings=False,
             rope_parameters={"rope_type": "default", "rope_theta": 100000.0}),
        documents=[23],
    ),
    Case(
        "llama3_rope",
        dict(vocab_size=97, hidden_size=24, intermediate_size=132, num_hidden_layers=2, num_attention_heads=3,
             num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=True,
             max_position_embeddings=256, eos_token_id=[2, 5],
             rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
                              "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
        documents=[37],
    ),
    Case(
        "llama3_rope_older_keys",
        dict(vocab_size=61, hidden_size=24, intermediate_size=44, num_hidden_layers=3, num_attention_heads=3,
             num_key_value_heads=3, rms_norm_eps=1e-4, tie_word_embeddings=False, max_position_embeddings=256,
             rope_parameters={"rope_type": "llama3", "rope_theta": 50.0, "factor": 8.0, "low_freq_factor": 1.0,
                              "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
        documents=[31],
        older_keys={"torch_dtype": "float32", "rope_theta": 50.0,
                    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                     "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
    ),
    Case(
        "linear_rope_bias_sharded",
        dict(vocab_size=97, hidden_size=40, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, attention_bias=True, rms_norm_eps=1e-5, tie_word_embeddings=False,
             rope_parameters={"rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}),
        documents=[29],
        shard_bytes=48_000,
        # The oldest spelling: "type", without "rope_".
        older_keys={"torch_dtype": "float32", "rope_theta": 1000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    Case(
        "packed",
        dict(vocab_size=61, hidden_size=24, intermediate_size=44, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        documents=[17, 14],
        dtype=torch.bfloat16,
    ),
]


def write_checkpoint(case: Case, directory: pathlib.Path, generator: torch.Generator) -> None:
    """Writes config.json and the weights as transformers does, then the older keys where the case asks for them."""
    defaults = dict(max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
    model = LlamaForCausalLM(LlamaConfig(**{**defaults, **case.config}))
    for name, parameter in model.named_parameters():
        parameter.data.copy_(parity.weight_values(name, parameter.shape, generator))
    model.to(case.dtype)
    shards = {} if case.shard_bytes is None else {"max_shard_size": case.shard_bytes}
    model.save_pretrained(directory, **shards)
    (directory / "generation_config.json").unlink()
    for path in directory.glob("*.safetensors"):
        path.chmod(0o644)
    if case.older_keys:
        path = directory / "config.json"
        config = json.loads(path.read_text())
        newer = ["rope_parameters", "dtype", "transformers_version"]
        if "head_dim" not in case.config:
            newer.append("head_dim")
        if config["num_key_value_heads"] == config["num_attention_heads"]:
            newer.append("num_key_value_heads")
        for key in newer:
            del config[key]
        config.update(case.older_keys)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(case: Case, directory: pathlib.Path, dtype: torch.dtype) -> LlamaForCausalLM:
    """Reads the directory back; what is on disk, not what was meant, is what the expectations are computed from."""
    model = LlamaForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
    rope = case.config["rope_parameters"]
    found = {key: model.config.rope_parameters[key] for key in rope}
    assert found == rope, f"{case.name}: rope read back as {found}, meant {rope}"
    parameters = dict(model.named_parameters())
    stored = parity.stored_tensors(directory)
    assert set(parameters) == set(stored), f"{case.name}: {set(parameters) ^ set(stored)}"
    for name, tensor in stored.items():
        assert torch.equal(parameters[name].data, tensor.to(dtype)), f"{case.name}: {name} read back differently"
    return model


def make(case: Case, index: int, root: pathlib.Path) -> dict:
    """Writes one case; returns its entry of reference.json."""
    directory = root / case.name
    generator = torch.Generator().manual_seed(20_000 + index)
    write_checkpoint(case, directory, generator)
    vocabulary = case.config["vocab_size"]
    documents = [torch.randint(0, vocabulary, (length,), generator=generator) for length in case.documents]

    narrow = parity.compute(load(case, directory, torch.float32), documents)
    with parity.wide_upcasts(modeling_llama):
        model = load(case, directory, torch.float64)
        wide = parity.compute(model, documents)
        if len(documents) > 1:
            parity.check_packing(model, documents, wide)
    parity.write_expected(directory, documents, wide)
    return parity.summary(sum(parameter.numel() for parameter in model.parameters()), narrow, wide)


if __name__ == "__main__":
    parity.run(__doc__, pathlib.Path(__file__).parent / "llama", CASES, make)
