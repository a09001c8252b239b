#!/usr/bin/env python3
"""Writes small random DeepSeek-V4 checkpoints and what transformers computes for them, into deepseek_v4/ beside it.

Each case is a Hugging Face directory (config.json, safetensors) plus expected.safetensors with

  tokens                  [tokens] int64
  logits                  [tokens, vocabulary] float32
  loss                    [] float32, mean cross-entropy of the next token
  gradient.<name>         float32, d loss / d parameter, under the parameter's name and shape in the checkpoint; the
                          indexer, the correction bias and the hash table have none
  hidden.<layer>          [tokens, streams, hidden] float32, what the layer gives to the next one
  experts.<layer>         [tokens, experts per token] int64, the chosen experts in ascending order
  expert_weights.<layer>  [tokens, experts per token] float32, the mixing weights of those experts, in the same order
  compressed.<layer>      [entries, head size] float32, compressed entries after norm and RoPE (layers that compress)
  index_scores.<layer>    [tokens, entries] float32, the indexer's scores, 0 where an entry is not visible (CSA layers)
  selected.<layer>        [tokens, at most index_topk] int64, the entries attended to, ascending, then -1 (CSA layers)
  indexer_kl.<layer>      [tokens] float32, KL(attention over the selected entries | softmax of their index scores)
  indexer_gradient.<name> float32, d (sum of all indexer_kl) / d parameter of the indexer, its inputs detached

Cases with several documents compute each on its own: `tokens.0`, `logits.0`, `tokens.1`, ...; the loss is the mean over
the targets of all, and what is stored per layer follows document after document (entries count from the document's
first, missing columns are 0, or -1 in `selected`). The case `mtp` adds, for tokens whose next one exists,

  mtp_logits              [tokens - 1, vocabulary] for the token after the next one (with the document's suffix)
  mtp_loss                [] mean cross-entropy over the targets of all documents, without any coefficient
  mtp_gradient.<name>     d mtp_loss / d parameter; it reaches the main layers, the embedding and the head too

Of the case `fp4`, experts are stored as the masters of a training run and expected with their rounding; the gradients
are straight-through.

Everything expected is computed in float64 and rounded to float32 once, and agrees with deepseek_v4_formula.py to 1e-9.
reference.json records the versions, how far transformers' own float32 is, and how far choices are from ties.

Usage: make_deepseek_v4_parity.py [--output DIRECTORY]
"""

import json
import pathlib
import shutil
from dataclasses import dataclass

import deepseek_v4_formula as formula
import deepseek_v4_names as names
import deepseek_v4_runs as runs
import moe_parity
import parity
import torch
from deepseek_v4_runs import MtpBlock
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM, modeling_rope_utils
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as modeling


@dataclass
class Case:
    """One checkpoint: the published keys of its config.json, how it is stored, and the tokens of each document."""

    name: str
    config: dict
    documents: list[int]
    dtype: torch.dtype = torch.bfloat16
    # Keys and tensor names as published, each expert apart; else as transformers 5 has them, experts merged.
    published: bool = False
    copies: bool = False  # also the same weights in the two other layouts, without expectations
    brief: bool = False  # of what layers give only indexer_kl is stored


DEFAULTS = dict(
    architectures=["DeepseekV4ForCausalLM"], model_type="deepseek_v4", attention_bias=False, attention_dropout=0.0,
    bos_token_id=0, eos_token_id=1, compress_rope_theta=100.0, hc_eps=1e-6, hc_mult=4, hc_sinkhorn_iters=20, head_dim=16,
    hidden_act="silu", hidden_size=24, index_head_dim=16, index_n_heads=2, index_topk=64, initializer_range=0.02,
    max_position_embeddings=256, moe_intermediate_size=4, n_routed_experts=8, n_shared_experts=1, norm_topk_prob=True,
    num_attention_heads=4, num_experts_per_tok=2, num_hash_layers=0, num_key_value_heads=1, num_nextn_predict_layers=1,
    o_groups=2, o_lora_rank=8, q_lora_rank=16, qk_rope_head_dim=8, rms_norm_eps=1e-6, rope_theta=10000.0,
    rope_scaling={"type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1},
    routed_scaling_factor=1.5, scoring_func="sqrtsoftplus", sliding_window=8, swiglu_limit=10.0, tie_word_embeddings=False,
    topk_method="noaux_tc", transformers_version="4.57.1", use_cache=True, vocab_size=32,
)

FEW_EXPERTS = dict(n_routed_experts=6, moe_intermediate_size=4)

CASES = [
    Case("sliding", dict(compress_ratios=[0, 0, 0], num_hash_layers=1, swiglu_limit=1.5, **FEW_EXPERTS), documents=[19]),
    Case("csa_sparse", dict(compress_ratios=[4, 4, 0], hc_mult=2, index_n_heads=4, index_topk=2,
                            routed_scaling_factor=2.5), documents=[23]),
    Case("csa_dense", dict(compress_ratios=[4, 0], o_groups=4, o_lora_rank=6, num_hash_layers=1,
                           swiglu_limit=1.5, **FEW_EXPERTS), documents=[32], published=True),
    Case("hca", dict(compress_ratios=[8, 8, 0], hc_mult=2, head_dim=24, qk_rope_head_dim=16, q_lora_rank=12,
                     num_experts_per_tok=3, rope_theta=500.0, compress_rope_theta=2000.0,
                     rope_scaling={"type": "yarn", "factor": 16, "original_max_position_embeddings": 256,
                                   "beta_fast": 32, "beta_slow": 1}, max_position_embeddings=4096, **FEW_EXPERTS),
         documents=[37], published=True),
    Case("all_layer_types", dict(compress_ratios=[0, 4, 16, 4, 0], num_hash_layers=2, hc_mult=2, index_n_heads=4,
                                 index_topk=3, swiglu_limit=1.5), documents=[41]),
    Case("shorter_than_a_window", dict(compress_ratios=[4, 16, 0], hc_mult=2, q_lora_rank=8, **FEW_EXPERTS),
         documents=[3], dtype=torch.float32),
    Case("packed", dict(compress_ratios=[4, 8, 0], num_hash_layers=1, hc_mult=2, index_n_heads=4, index_topk=2,
                        swiglu_limit=1.5), documents=[22, 1, 3, 13], copies=True),
    Case("published_ratios", dict(compress_ratios=[4, 128, 0], hc_mult=2, index_n_heads=4, index_topk=8, **FEW_EXPERTS),
         documents=[133], published=True),
    Case("mtp", dict(compress_ratios=[4, 0], hc_mult=2, swiglu_limit=1.5, num_hash_layers=1, **FEW_EXPERTS),
         documents=[17, 11], published=True),
    Case("all_published_ratios", dict(compress_ratios=[0, 4, 128, 4, 0], num_hash_layers=3, index_n_heads=4, index_topk=60,
                                      swiglu_limit=1.5, **FEW_EXPERTS), documents=[264], published=True, brief=True),
    Case("fp4", dict(compress_ratios=[0, 4, 0], expert_dtype="fp4", hc_mult=2, hidden_size=32, index_head_dim=64,
                     index_n_heads=4, index_topk=3, moe_intermediate_size=64, n_routed_experts=3, num_hash_layers=1,
                     swiglu_limit=1.5), documents=[26, 15], published=True),
]

BRIEF = ("logits", "loss", "gradient", "indexer_gradient", "indexer_kl")


def published_config(case: Case) -> dict:
    dtype = "float32" if case.dtype is torch.float32 else "bfloat16"
    config = {**DEFAULTS, **case.config, "torch_dtype": dtype}
    return {**config, "num_hidden_layers": len(config["compress_ratios"]) - 1}


def transformers_config(published: dict) -> DeepseekV4Config:
    """The same model in transformers' keys. (It reads published ones only where every ratio is 0, 4 or 128.)"""
    config = dict(published)
    ratios = config.pop("compress_ratios")[:config["num_hidden_layers"]]
    kinds = {0: "sliding_attention", 4: "compressed_sparse_attention"}
    heavy = max([ratio for ratio in ratios if ratio not in kinds], default=128)
    hash_layers = config.pop("num_hash_layers")
    config["partial_rotary_factor"] = config.pop("qk_rope_head_dim") / config["head_dim"]
    config["layer_types"] = [kinds.get(ratio, "heavily_compressed_attention") for ratio in ratios]
    config["compress_rates"] = {"compressed_sparse_attention": 4, "heavily_compressed_attention": heavy}
    config["mlp_layer_types"] = ["hash_moe" if layer < hash_layers else "moe" for layer in range(len(ratios))]
    for key in ["architectures", "transformers_version", "torch_dtype", "topk_method", "model_type"]:
        config.pop(key)
    result = DeepseekV4Config(**config)
    assert result.qk_rope_head_dim == published["qk_rope_head_dim"]
    return result


def hash_table(vocabulary: int, experts: int, chosen: int, generator: torch.Generator) -> torch.Tensor:
    """Random rows of distinct experts."""
    return torch.rand(vocabulary, experts, generator=generator).argsort(-1)[:, :chosen].clone()


def weight_values(name: str, tensor: torch.Tensor, streams: int, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(tensor.shape, generator=generator)
    if name.endswith("_hc.base"):
        noise[2 * streams:] *= 4  # rows and columns so uneven that every Sinkhorn iteration can be told from the next
    if name.endswith(("sinks", "base", "position_bias")):
        return 0.7 * noise
    if name.endswith("scale"):
        return 0.7 + 0.2 * noise
    if name.endswith("e_score_correction_bias"):
        return 0.2 * noise
    return parity.weight_values(name, tensor.shape, generator)


def random_tensors(case: Case, config: DeepseekV4Config, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """All tensors under transformers' names, those of the MTP block as `mtp.0.<name in MtpBlock>`."""
    shapes = DeepseekV4ForCausalLM(config).state_dict()
    if case.name == "mtp":
        shapes.update({f"mtp.0.{name}": tensor for name, tensor in MtpBlock(config).state_dict().items()})
    tensors = {}
    for name, tensor in shapes.items():
        if name.endswith("tid2eid"):
            tensors[name] = hash_table(*tensor.shape[:1], config.n_routed_experts, tensor.shape[1], generator)
        else:
            dtype = torch.float32 if names.keeps_float32(name) else case.dtype
            tensors[name] = weight_values(name, tensor, config.hc_mult, generator).to(dtype)
    return tensors


def write_checkpoint(directory: pathlib.Path, published: dict | DeepseekV4Config, tensors: dict) -> None:
    directory.mkdir(parents=True)
    if isinstance(published, dict):
        (directory / "config.json").write_text(json.dumps(published, indent=2, sort_keys=True) + "\n")
    else:
        published.save_pretrained(directory)
    parity.write_tensors(tensors, directory / "model.safetensors")


def write_case(case: Case, root: pathlib.Path, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Writes the case, and its copies in the other layouts; returns the tensors under their published names."""
    published = published_config(case)
    config = transformers_config(published)
    tensors = random_tensors(case, config, generator)
    official = names.official(tensors)
    config.architectures, config.dtype = ["DeepseekV4ForCausalLM"], case.dtype
    if case.published:
        write_checkpoint(root / case.name, published, official)
    else:
        write_checkpoint(root / case.name, config, tensors)
    if case.copies:
        write_checkpoint(root / f"{case.name}_published", published, official)
        model = DeepseekV4ForCausalLM(config)
        model.load_state_dict(tensors, assign=True)
        directory = root / f"{case.name}_saved"
        model.save_pretrained(directory)  # a third set of names, see README.md
        (directory / "generation_config.json").unlink()
        (directory / "model.safetensors").chmod(0o644)
    return official


def load(directory: pathlib.Path, case: Case, dtype: torch.dtype) -> tuple[DeepseekV4ForCausalLM, MtpBlock | None]:
    """Reads the directory back; what is on disk, not what was meant, is what the expectations are computed from."""
    published = published_config(case)
    meant = transformers_config(published)
    readable = not case.published or set(published["compress_ratios"]) <= {0, 4, 128}
    model = DeepseekV4ForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", experts_implementation="eager",
        **({} if readable else {"config": meant}),
    ).eval()
    derived = ["layer_types", "compress_rates", "mlp_layer_types", "qk_rope_head_dim", "rope_parameters"]
    for key in [*derived, *case.config]:
        found, expected = getattr(model.config, key, None), getattr(meant, key, None)
        assert found == expected, f"{case.name}: {key} read back as {found}, meant {expected}"
    parameters = model.state_dict()
    stored = parity.stored_tensors(directory)
    mtp = None
    if case.name == "mtp":
        mtp = MtpBlock(model.config).to(dtype).eval()
        by_name = {f"mtp.0.{name}": tensor for name, tensor in mtp.state_dict().items()}
        for name, tensor in by_name.items():
            pieces = names.official({name: tensor})  # views of the module's own memory
            for piece, view in pieces.items():
                view.copy_(stored[piece])
        parameters.update(by_name)
    if case.published or directory.name.endswith("_published"):
        parameters = names.official(parameters)
    if not directory.name.endswith("_saved"):
        assert set(parameters) == set(stored), f"{case.name}: {set(parameters) ^ set(stored)}"
        for name, tensor in stored.items():
            assert torch.equal(parameters[name], tensor.to(parameters[name].dtype)), f"{case.name}: {name} differs"
    if formula.trained_for_fp4(published):
        runs.round_experts(model)
    return model, mtp


def attempt(case: Case, root: pathlib.Path, seed: int) -> dict | None:
    """Writes the model of this seed; returns its entry of reference.json, or None if it is of no use."""
    generator = torch.Generator().manual_seed(seed)
    stored = write_case(case, root, generator)
    published = published_config(case)
    documents = [torch.randint(0, published["vocab_size"], (length,), generator=generator) for length in case.documents]
    with parity.wide_upcasts(modeling, modeling_rope_utils):
        model, mtp = load(root / case.name, case, torch.float64)
        assert model.model.rotary_emb.compress_inv_freq.dtype is torch.float64
        wide, recorder = runs.run_transformers(model, mtp, documents)
    if not recorder.decided(published["swiglu_limit"]):
        return None
    wide_official = runs.gradients_official(wide)
    if case.published and any(value.norm() == 0 for name, value in wide_official.items() if "gradient" in name):
        return None  # an expert without a token: relative errors of its gradients would mean nothing
    runs.check_formula(case.name, wide_official, runs.run_formula(published, stored, documents))
    narrow, _ = runs.run_transformers(*load(root / case.name, case, torch.float32), documents)
    for name, value in wide.items():
        assert value.is_floating_point() or torch.equal(value, narrow[name]), f"{case.name}: {name} differs in float32"
    if case.copies:
        for layout in ["published", "saved"]:
            copy = root / f"{case.name}_{layout}"
            state = DeepseekV4ForCausalLM.from_pretrained(copy, config=transformers_config(published)).state_dict()
            assert all(torch.equal(tensor, state[name].to(tensor.dtype)) for name, tensor in
                       DeepseekV4ForCausalLM.from_pretrained(root / case.name).state_dict().items()), layout
    if case.published:
        wide, narrow = wide_official, runs.gradients_official(narrow)
    kept = {name: value for name, value in wide.items() if not case.brief or name.partition(".")[0] in BRIEF}
    parity.write_expected(root / case.name, documents, kept)
    parameters = sum(tensor.numel() for name, tensor in stored.items() if not name.endswith(("tid2eid", "gate.bias")))
    summary = parity.summary(parameters, narrow, wide)
    if summary["float32_to_float64"]["worst_gradient"] > moe_parity.CONDITION:
        return None
    return {"seed": seed, **recorder.summary(published["swiglu_limit"]), **summary}


def make(case: Case, index: int, root: pathlib.Path) -> dict:
    """Writes one case from the first seed whose choices have a margin; returns its entry of reference.json."""
    for seed in range(40_000 + 1000 * index, 41_000 + 1000 * index):
        entry = attempt(case, root, seed)
        if entry is not None:
            return entry
        for layout in ["", "_published", "_saved"]:
            shutil.rmtree(root / f"{case.name}{layout}", ignore_errors=True)
    raise AssertionError(f"{case.name}: no seed keeps its choices apart")


if __name__ == "__main__":
    parity.run(__doc__, pathlib.Path(__file__).parent / "deepseek_v4", CASES, make)
