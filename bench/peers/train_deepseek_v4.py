#!/usr/bin/env python3
"""Measures training steps of a small DeepSeek-V4 in Flyover and in transformers on the same cores, in turns.

The shape is the one that `flyover bench train --shape v4-small` names: its configuration comes from the program. A step
is forward, loss, backward, clipping and AdamW over all parameters, in bf16 (transformers: autocast over float32 weights
and AdamW state, the fastest of its ways to compute experts and of one or two sequences at a time; Flyover: a
micro-batch as a run may have it). Passes of transformers take seconds: some of them, and an update measured on its own,
are counted as often as in a step of full size.
The C library hands large blocks back to the system and asks for them again, which costs transformers up to half of its
time, a different share in each pass: unless --allocator default is given, it is told to keep them.
Prints one JSON object. Without PyTorch it says so and ends with exit code 0.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

try:
    import torch
    import transformers
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(0)


# The allocator reads these when the process starts.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}


def measure_flyover(arguments):
    command = [arguments.flyover, "bench", "train", "--shape", "v4-small", "--dtype", "bf16", "--json",
               "--sequence-length", str(arguments.sequence_length), "--step-tokens", str(arguments.tokens_per_step),
               "--micro-batch-tokens", str(arguments.micro_batch_tokens), "--steps", "1",
               "--threads", str(arguments.threads)]
    environment = {name: value for name, value in os.environ.items() if name not in KEEP_MEMORY}
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    return report["train.v4-small.bf16"]


class Peer:
    """The same model in transformers."""

    def __init__(self, config, experts, sequences, arguments):
        torch.manual_seed(1)
        self.arguments = arguments
        self.config = DeepseekV4Config.from_dict(config)
        self.config._experts_implementation = experts
        self.model = DeepseekV4ForCausalLM(self.config).float().train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.tokens = torch.randint(0, config["vocab_size"], (sequences, arguments.sequence_length))

    def pass_seconds(self):
        """Forward and backward of the sequences that are computed at a time."""
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.model(input_ids=self.tokens, labels=self.tokens, use_cache=False).loss
        loss.backward()
        return time.perf_counter() - start

    def update_seconds(self):
        start = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    def tokens_per_second(self):
        passes = [self.pass_seconds() for _ in range(self.arguments.passes)]
        count = self.arguments.tokens_per_step // self.tokens.numel()
        step = count * min(passes) + self.update_seconds()
        return count * self.tokens.numel() / step


def fastest_peer(config, arguments):
    """transformers' way to compute experts, and number of sequences at a time, that needs the least time for a sequence,
    each tried twice. (Its third way, batched_mm, copies an expert's weights for every token: more than 24 GB at this
    size.)"""
    best, best_seconds, tried = None, float("inf"), {}
    for experts, sequences in [("grouped_mm", 1), ("grouped_mm", 2), ("eager", 1)]:
        name = f"{experts}, {sequences} at a time"
        try:
            peer = Peer(config, experts, sequences, arguments)
            peer.pass_seconds()
            peer.update_seconds()
            tried[name] = round(min(peer.pass_seconds() for _ in range(2)) / sequences, 2)
        except Exception as error:  # what a version cannot do on this machine
            tried[name] = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        if tried[name] < best_seconds:
            best, best_seconds = peer, tried[name]
    return best, tried


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flyover", default=str(pathlib.Path(__file__).parents[2] / "build/release/bin/flyover"))
    defaults = dict(sequence_length=1024, tokens_per_step=32768, micro_batch_tokens=8192, threads=2, passes=2, rounds=2)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--allocator", choices=["keeps", "default"], default="keeps", help="default keeps")
    arguments = parser.parse_args()
    if arguments.allocator == "keeps" and any(os.environ.get(name) != value for name, value in KEEP_MEMORY.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    torch.set_num_threads(arguments.threads)
    peer, tried = fastest_peer(measure_flyover(arguments)["config"], arguments)
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        theirs.append(peer.tokens_per_second())
        ours.append(measure_flyover(arguments))
    best = max(result["tokens_per_second"] for result in ours)
    print(json.dumps({
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "allocator": arguments.allocator,
        "seconds_for_a_sequence": tried,
        "flyover_tokens_per_second": [round(result["tokens_per_second"]) for result in ours],
        "flyover_mfu": [round(result["mfu"], 3) for result in ours],
        "transformers_tokens_per_second": [round(value, 1) for value in theirs],
        "ratio": round(best / max(theirs), 2),
    }, indent=2))


if __name__ == "__main__":
    main()
