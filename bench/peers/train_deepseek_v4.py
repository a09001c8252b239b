#!/usr/bin/env python3
"""Measures training steps of a small DeepSeek-V4 in Flyover and in transformers on the same cores, in turns.

The shape is the one that `flyover bench train --shape v4-small` names: its configuration comes from the program. A step
is forward, loss, backward, clipping and AdamW over all parameters, in bf16 (transformers: autocast over float32 weights
and AdamW state, the fastest of its ways to compute experts and of one or two sequences at a time; Flyover: a
micro-batch as a run may have it). Whole steps are timed in both, in turns, and the best of each compared.
The C library hands large blocks back to the system and asks for them again, which costs transformers a fifth of its
speed and more. So everything is measured twice: as a user meets it who sets nothing ("default"), and with the library
told to keep its memory ("keeps").
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
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
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

    def update(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def tokens_per_second(self):
        """Of one whole step."""
        count = self.arguments.tokens_per_step // self.tokens.numel()
        start = time.perf_counter()
        for _ in range(count):
            self.pass_seconds()
        self.update()
        return count * self.tokens.numel() / (time.perf_counter() - start)


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
            peer.update()
            tried[name] = round(min(peer.pass_seconds() for _ in range(2)) / sequences, 2)
        except Exception as error:  # what a version cannot do on this machine
            tried[name] = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        if tried[name] < best_seconds:
            best, best_seconds = peer, tried[name]
    return best, tried


def compare(arguments):
    """Both programs in turns, in the environment that this process has."""
    torch.set_num_threads(arguments.threads)
    peer, tried = fastest_peer(measure_flyover(arguments)["config"], arguments)
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        theirs.append(peer.tokens_per_second())
        ours.append(measure_flyover(arguments))
    speeds = [result["tokens_per_second"] for result in ours]
    return {
        "seconds_for_a_sequence": tried,
        "flyover_tokens_per_second": [round(speed) for speed in speeds],
        "flyover_mfu": [round(result["mfu"], 3) for result in ours],
        "transformers_tokens_per_second": [round(value, 1) for value in theirs],
        "ratio": round(max(speeds) / max(theirs), 2),
    }


def compare_with(allocator):
    """A process of its own, since the allocator reads its settings when one starts."""
    environment = {name: value for name, value in os.environ.items() if name not in KEEP_MEMORY}
    if allocator == "keeps":
        environment |= KEEP_MEMORY
    command = [sys.executable, *sys.argv, "--here"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flyover", default=str(pathlib.Path(__file__).parents[2] / "build/release/bin/flyover"))
    defaults = dict(sequence_length=1024, tokens_per_step=32768, micro_batch_tokens=8192, threads=2, rounds=2)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--allocator", choices=["both", "default", "keeps"], default="both", help="default both")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(compare(arguments)))
        return
    allocators = ["default", "keeps"] if arguments.allocator == "both" else [arguments.allocator]
    print(json.dumps({
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "allocator": {name: compare_with(name) for name in allocators},
    }, indent=2))


if __name__ == "__main__":
    main()
