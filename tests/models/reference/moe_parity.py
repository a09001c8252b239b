"""Mixture-of-experts models for the make_*_parity.py scripts: chosen experts are recorded beside logits and gradients,
and the random model is one whose choices are far from ties, so that every correct implementation makes the same ones.
"""

import contextlib
import json
import pathlib
import shutil
from dataclasses import dataclass, field
from types import ModuleType
from typing import Callable

import parity
import torch
from transformers import modeling_rope_utils

# A score that decides a choice is at least this far from the next one; scores are of order one, float32 errs by 1e-6.
MARGIN = 1e-3
# transformers' own float32 gradients are at least this near, relative to a tensor's norm: a model on which float32 does
# worse would only test luck.
CONDITION = 1e-5


@dataclass
class Case:
    """One checkpoint: what config.json says, how it is stored, and how many tokens each document has."""

    name: str
    config: dict
    documents: list[int]
    dtype: torch.dtype = torch.float32
    shard_bytes: int | None = None  # None = one file
    published: dict | None = None  # config.json as published checkpoints write it; None = as transformers 5 does


@dataclass
class Family:
    """A model family of transformers and what is particular to its routers."""

    config_class: type
    model_class: type
    modeling: ModuleType
    layer_class: type
    router_classes: tuple[type, ...]
    # (router, its input) -> smallest distance between a score that was chosen and one that was not
    margin: Callable[[torch.nn.Module, torch.Tensor], float]
    # Numbers that cases share, where they do not say otherwise.
    defaults: dict = field(default_factory=dict)


@contextlib.contextmanager
def recorded(family: Family, model: torch.nn.Module):
    """Yields lists that forward passes fill, one entry a document: what is stored, and the margins of choices."""
    records: dict[str, list] = {}
    hooks = []

    def record_router(layer: int):
        def hook(router, inputs, outputs):
            _, weights, experts = outputs
            order = experts.argsort(-1)
            records.setdefault(f"experts.{layer}", []).append(experts.gather(-1, order))
            records.setdefault(f"expert_weights.{layer}", []).append(weights.detach().gather(-1, order))
            records.setdefault("margin", []).append(family.margin(router, inputs[0].detach()))

        return hook

    def record_hidden(layer: int):
        return lambda module, inputs, output: records.setdefault(f"hidden.{layer}", []).append(output.detach()[0])

    layers = [module for module in model.modules() if isinstance(module, family.layer_class)]
    for number, layer in enumerate(layers):
        hooks.append(layer.register_forward_hook(record_hidden(number)))
        for module in layer.modules():
            if isinstance(module, family.router_classes):
                hooks.append(module.register_forward_hook(record_router(number)))
    yield records
    for hook in hooks:
        hook.remove()


def split_experts(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Merged experts (gate_up_proj [experts, 2 width, hidden]) under the names and shapes that checkpoints store."""
    result = {}
    for name, tensor in tensors.items():
        prefix, _, leaf = name.rpartition(".experts.")
        if leaf == "gate_up_proj":
            for expert, gate_up in enumerate(tensor):
                gate, up = gate_up.chunk(2)
                result[f"{prefix}.experts.{expert}.gate_proj.weight"] = gate
                result[f"{prefix}.experts.{expert}.up_proj.weight"] = up
        elif leaf == "down_proj":
            result.update({f"{prefix}.experts.{expert}.down_proj.weight": down for expert, down in enumerate(tensor)})
        else:
            result[name] = tensor
    return result


def compute(family: Family, model: torch.nn.Module, documents: list[torch.Tensor]) -> tuple[dict, float]:
    """parity.compute and what was recorded on the way, over all documents in their order; and the smallest margin."""
    with recorded(family, model) as records:
        results = parity.compute(model, documents)
    margin = min(records.pop("margin"))
    results.update({name: torch.cat(values) for name, values in records.items()})
    return results, margin


def write_checkpoint(family: Family, case: Case, directory: pathlib.Path, generator: torch.Generator) -> None:
    """Writes config.json and the weights as transformers does (each expert on its own), or config.json as published."""
    model = family.model_class(family.config_class(**{**family.defaults, **case.config}))
    for name, parameter in model.named_parameters():
        parameter.data = parity.weight_values(name, parameter.shape, generator).to(case.dtype)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
    shards = {} if case.shard_bytes is None else {"max_shard_size": case.shard_bytes}
    model.save_pretrained(directory, **shards)
    (directory / "generation_config.json").unlink()
    for path in directory.glob("*.safetensors"):
        path.chmod(0o644)
    if case.published is not None:
        (directory / "config.json").write_text(json.dumps(case.published, indent=2, sort_keys=True) + "\n")


def load(family: Family, case: Case, directory: pathlib.Path, dtype: torch.dtype) -> torch.nn.Module:
    """Reads the directory back; what is on disk, not what was meant, is what the expectations are computed from."""
    model = family.model_class.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", experts_implementation="eager"
    ).eval()
    meant = family.config_class(**{**family.defaults, **case.config}).to_dict()
    found = model.config.to_dict()
    for key in ["architectures", "dtype", "transformers_version", "_name_or_path"]:
        meant.pop(key, None), found.pop(key, None)
    found["rope_parameters"].pop("type", None)  # the older spelling of rope_type, kept beside it
    wrong = {key: (meant.get(key), value) for key, value in found.items() if key in meant and meant[key] != value}
    assert not wrong, f"{case.name}: meant and read back {wrong}"
    parameters = split_experts(model.state_dict())
    if model.config.tie_word_embeddings:
        del parameters["lm_head.weight"]
    stored = parity.stored_tensors(directory)
    assert set(parameters) == set(stored), f"{case.name}: {set(parameters) ^ set(stored)}"
    for name, tensor in stored.items():
        assert torch.equal(parameters[name], tensor.to(dtype)), f"{case.name}: {name} read back differently"
    return model



def attempt(family: Family, case: Case, directory: pathlib.Path, seed: int) -> dict | None:
    """Writes the model of this seed; returns its entry of reference.json, or None if it is of no use."""
    generator = torch.Generator().manual_seed(seed)
    write_checkpoint(family, case, directory, generator)
    vocabulary = case.config["vocab_size"]
    documents = [torch.randint(0, vocabulary, (length,), generator=generator) for length in case.documents]
    with parity.wide_upcasts(family.modeling, modeling_rope_utils):
        model = load(family, case, directory, torch.float64)
        wide, margin = compute(family, model, documents)
        if margin < MARGIN:
            return None
        if len(documents) > 1:
            parity.check_packing(model, documents, wide)
    narrow, _ = compute(family, load(family, case, directory, torch.float32), documents)
    wide, narrow = split_experts(wide), split_experts(narrow)
    if any(value.norm() == 0 for name, value in wide.items() if name.startswith("gradient")):
        return None  # an expert without a token: relative errors of its gradients would mean nothing
    for name, value in wide.items():
        assert value.is_floating_point() or torch.equal(value, narrow[name]), f"{case.name}: {name} differ in float32"
    parity.write_expected(directory, documents, wide)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    summary = parity.summary(parameters, narrow, wide)
    if summary["float32_to_float64"]["worst_gradient"] > CONDITION:
        return None
    return {"seed": seed, "smallest_margin": float(f"{margin:.2g}"), **summary}


def make(family: Family, case: Case, first_seed: int, root: pathlib.Path) -> dict:
    """Writes one case from the first seed whose choices have a margin; returns its entry of reference.json."""
    for seed in range(first_seed, first_seed + 1000):
        entry = attempt(family, case, root / case.name, seed)
        if entry is not None:
            return entry
        shutil.rmtree(root / case.name)
    raise AssertionError(f"{case.name}: no seed keeps its choices {MARGIN} apart")
