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

import argparse
import contextlib
import json
import pathlib
import shutil
import unittest.mock
from dataclasses import dataclass, field

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

IGNORED = -100  # torch's label for "no target here"


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


def randomise(model: LlamaForCausalLM, generator: torch.Generator) -> None:
    """Weights with a spread that makes every activation, attention score and gradient of order one."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            values = 1 + 0.3 * noise
        elif name.endswith("bias"):
            values = 0.3 * noise
        elif "embed_tokens" in name:
            values = 0.5 * noise
        else:
            values = 1.5 * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(values)


def write_checkpoint(case: Case, directory: pathlib.Path, generator: torch.Generator) -> None:
    """Writes config.json and the weights as transformers does, then the older keys where the case asks for them."""
    defaults = dict(max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
    model = LlamaForCausalLM(LlamaConfig(**{**defaults, **case.config}))
    randomise(model, generator)
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


def stored_tensors(directory: pathlib.Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint under the names it stores them by."""
    tensors = {}
    for path in sorted(directory.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                tensors[name] = file.get_tensor(name)
    return tensors


def load(case: Case, directory: pathlib.Path, dtype: torch.dtype) -> LlamaForCausalLM:
    """Reads the directory back; what is on disk, not what was meant, is what the expectations are computed from."""
    model = LlamaForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
    rope = case.config["rope_parameters"]
    found = {key: model.config.rope_parameters[key] for key in rope}
    assert found == rope, f"{case.name}: rope read back as {found}, meant {rope}"
    parameters = dict(model.named_parameters())
    stored = stored_tensors(directory)
    assert set(parameters) == set(stored), f"{case.name}: {set(parameters) ^ set(stored)}"
    for name, tensor in stored.items():
        assert torch.equal(parameters[name].data, tensor.to(dtype)), f"{case.name}: {name} read back differently"
    return model


class WideTorch:
    """The torch module with float32 renamed to float64."""

    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def wide_upcasts():
    """transformers casts norms, softmax and rotary angles to float32 whatever the model's type; here, to float64."""
    with (
        unittest.mock.patch.object(modeling_llama, "torch", WideTorch()),
        unittest.mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield


def next_token_labels(tokens: torch.Tensor) -> torch.Tensor:
    return torch.cat([tokens[1:], torch.tensor([IGNORED])])


def compute(model: LlamaForCausalLM, documents: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits of each document on its own, the mean loss over all targets, and every parameter's gradient."""
    logits = [model(input_ids=tokens[None], use_cache=False).logits[0] for tokens in documents]
    labels = torch.cat([next_token_labels(tokens) for tokens in documents])
    loss = torch.nn.functional.cross_entropy(torch.cat(logits), labels, ignore_index=IGNORED)
    loss.backward()
    suffixes = [""] if len(documents) == 1 else [f".{index}" for index in range(len(documents))]
    results = {f"logits{suffix}": value.detach() for suffix, value in zip(suffixes, logits)}
    results["loss"] = loss.detach()
    results.update({f"gradient.{name}": parameter.grad for name, parameter in model.named_parameters()})
    for name, value in results.items():
        assert value.dtype == model.dtype and value.isfinite().all() and value.abs().max() > 0, name
    return results


def check_packing(model: LlamaForCausalLM, documents: list[torch.Tensor], results: dict[str, torch.Tensor]) -> None:
    """One sequence with restarting positions and a block-diagonal mask gives what the documents give alone."""
    owner = torch.cat([torch.full_like(tokens, index) for index, tokens in enumerate(documents)])
    positions = torch.cat([torch.arange(len(tokens)) for tokens in documents])
    visible = (owner[:, None] == owner) & torch.ones(len(owner), len(owner)).tril().bool()
    mask = torch.zeros(visible.shape, dtype=model.dtype).masked_fill(~visible, float("-inf"))
    with torch.no_grad():
        packed = model(input_ids=torch.cat(documents)[None], position_ids=positions[None],
                       attention_mask=mask[None, None], use_cache=False).logits[0]
    alone = torch.cat([results[f"logits.{index}"] for index in range(len(documents))])
    assert (packed - alone).abs().max() < 1e-12 * alone.abs().max()


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.double() - expected).norm() / expected.norm()).item()


def make(case: Case, index: int, root: pathlib.Path) -> dict:
    """Writes one case; returns its entry of reference.json."""
    directory = root / case.name
    generator = torch.Generator().manual_seed(20_000 + index)
    write_checkpoint(case, directory, generator)
    vocabulary = case.config["vocab_size"]
    documents = [torch.randint(0, vocabulary, (length,), generator=generator) for length in case.documents]

    narrow = compute(load(case, directory, torch.float32), documents)
    with wide_upcasts():
        model = load(case, directory, torch.float64)
        wide = compute(model, documents)
        if len(documents) > 1:
            check_packing(model, documents, wide)

    suffixes = [""] if len(documents) == 1 else [f".{number}" for number in range(len(documents))]
    expected = {f"tokens{suffix}": tokens for suffix, tokens in zip(suffixes, documents)}
    expected.update({name: value.float().contiguous() for name, value in wide.items()})
    save_file(expected, directory / "expected.safetensors")
    (directory / "expected.safetensors").chmod(0o644)

    differences = {name: relative_difference(narrow[name], wide[name]) for name in wide}
    logits = torch.cat([value for name, value in wide.items() if name.startswith("logits")])
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "loss": round(wide["loss"].item(), 6),
        "logits_standard_deviation": round(logits.std().item(), 3),
        "smallest_gradient_norm": float(f"{min(v.norm().item() for n, v in wide.items() if 'gradient' in n):.2g}"),
        "float32_to_float64": {
            "logits": float(f"{max(d for n, d in differences.items() if n.startswith('logits')):.2g}"),
            "worst_gradient": float(f"{max(d for n, d in differences.items() if n.startswith('gradient')):.2g}"),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent / "llama")
    output = parser.parse_args().output
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(output, ignore_errors=True)
    report = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "cases": {}}
    for index, case in enumerate(CASES):
        report["cases"][case.name] = make(case, index, output)
        print(case.name, json.dumps(report["cases"][case.name]))
    (output / "reference.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{sum(path.stat().st_size for path in output.rglob('*') if path.is_file()):,} bytes in {output}")


if __name__ == "__main__":
    main()
