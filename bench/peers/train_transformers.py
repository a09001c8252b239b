#!/usr/bin/env python3
"""Measures one training step of a Llama in PyTorch and transformers on CPU, beside `flyover bench train`.

The defaults are the SmolLM2-135M shape and 4,096 tokens a step in sequences of 512. A step is forward, loss, backward,
clipping and AdamW over all parameters. "f32" is all float32; "bf16" is autocast over float32 weights and AdamW state.
Prints one JSON object: tokens/s, the ceiling of a matrix product measured in the same run, and model FLOP/s over it.
MFU counts 6 FLOPs a parameter (embedding look-up excluded, output layer included) plus causal attention, a token.
"""

import argparse
import contextlib
import json
import resource
import statistics
import time

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def flops_per_token(config: LlamaConfig, sequence_length: int) -> float:
    """Forward and backward. A tied matrix counts once, as output; an untied embedding look-up does not count."""
    query, key_value = config.hidden_size, config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    block = 2 * config.hidden_size * (query + key_value) + 3 * config.hidden_size * config.intermediate_size
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    parameters = config.num_hidden_layers * block + norms + config.vocab_size * config.hidden_size
    attention = 2 * (sequence_length + 1) * config.hidden_size * config.num_hidden_layers  # scores, values
    return 6 * parameters + 3 * attention


def matrix_ceiling(dtype: torch.dtype, seconds: float = 2.0) -> float:
    """FLOP/s of the best of repeated square products."""
    size = 2048
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def training_step(model, optimizer, batches: list[torch.Tensor], autocast) -> None:
    for tokens in batches:
        with autocast():
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss / len(batches)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(config: LlamaConfig, dtype: str, arguments: argparse.Namespace) -> dict:
    torch.manual_seed(1)
    model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").float().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    sequences = arguments.tokens_per_step // arguments.sequence_length
    tokens = torch.randint(0, config.vocab_size, (sequences, arguments.sequence_length))
    batches = list(tokens.split(arguments.micro_batch))
    bf16 = dtype == "bf16"
    autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if bf16 else contextlib.nullcontext

    training_step(model, optimizer, batches, autocast)  # not timed: creates the optimizer state
    times = []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        training_step(model, optimizer, batches, autocast)
        times.append(time.perf_counter() - start)
    tokens_per_second = tokens.numel() / statistics.median(times)
    ceiling = matrix_ceiling(DTYPES[dtype])
    achieved = tokens_per_second * flops_per_token(config, arguments.sequence_length)
    return {
        "tokens_per_second": round(tokens_per_second, 1),
        "step_seconds": [round(value, 2) for value in times],
        "model_gflops_per_second": round(achieved / 1e9, 1),
        "matrix_ceiling_gflops_per_second": round(ceiling / 1e9, 1),
        "mfu": round(achieved / ceiling, 3),
        "peak_resident_gib_so_far": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = dict(layers=30, hidden=576, heads=9, kv_heads=3, mlp=1536, vocabulary=49152, sequence_length=512,
                    tokens_per_step=4096, micro_batch=8, threads=2, steps=2)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--dtype", choices=sorted(DTYPES), action="append", help="default: bf16, then f32")
    arguments = parser.parse_args()
    if arguments.tokens_per_step % arguments.sequence_length != 0:
        parser.error("--tokens-per-step must be a multiple of --sequence-length")
    torch.set_num_threads(arguments.threads)
    config = LlamaConfig(
        vocab_size=arguments.vocabulary, hidden_size=arguments.hidden, intermediate_size=arguments.mlp,
        num_hidden_layers=arguments.layers, num_attention_heads=arguments.heads, num_key_value_heads=arguments.kv_heads,
        max_position_embeddings=8192, tie_word_embeddings=True)
    shape = {key: value for key, value in vars(arguments).items() if key != "dtype"}
    result = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "shape": shape}
    for dtype in arguments.dtype or ["bf16", "f32"]:
        result[dtype] = measure(config, dtype, arguments)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
