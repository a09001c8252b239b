#!/usr/bin/env python3
"""Loads a model directory in transformers (float32, CPU) and compares its logits with those that Flyover wrote:

    flyover inspect logits --model DIR --tokens "1,2,3" --dtype f32 --out F.safetensors
    check_with_transformers.py DIR F.safetensors

Exit code 0 when the norm-wise relative difference is at most the threshold, 1 when it is larger, 2 for unusable input.
"""

import argparse
import pathlib
import sys
from typing import NoReturn

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def fail(message: str) -> NoReturn:
    print(f"check_with_transformers: {message}", file=sys.stderr)
    sys.exit(2)


def load_model(directory: pathlib.Path) -> torch.nn.Module:
    """The model with every parameter read from the directory; transformers alone would only warn about the others."""
    if not (directory / "config.json").is_file():
        fail(f"{directory} has no config.json: expected a Hugging Face model directory")
    model, report = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            fail(f"{directory}: {kind.replace('_', ' ')}: {sorted(report[kind])}")
    return model.eval()


def load_logits(path: pathlib.Path, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """tokens [tokens] and logits [tokens, vocabulary], checked against each other and the model."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        fail(f"{path}: {error}")
    for name in ("tokens", "logits"):
        if name not in tensors:
            fail(f"{path} has no tensor {name!r}: expected the output of `flyover inspect logits`")
    tokens, logits = tensors["tokens"].long(), tensors["logits"].double()
    if tokens.dim() != 1 or len(tokens) == 0 or logits.shape != (len(tokens), vocabulary):
        fail(f"{path}: tokens {list(tokens.shape)}, logits {list(logits.shape)}; "
             f"expected [tokens] and [tokens, {vocabulary}]")
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        fail(f"{path}: a token is outside 0 to {vocabulary - 1}")
    return tokens, logits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="model directory")
    parser.add_argument("logits", type=pathlib.Path, help="safetensors file with `tokens` and `logits`")
    parser.add_argument("--threshold", type=float, default=1e-4, help="largest relative difference (default 1e-4)")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()

    model = load_model(arguments.model)
    tokens, logits = load_logits(arguments.logits, model.config.vocab_size)
    with torch.no_grad():
        expected = model(input_ids=tokens[None], use_cache=False).logits[0].double()
    difference = logits - expected
    relative = (difference.norm() / expected.norm()).item()
    agrees = relative <= arguments.threshold  # False also where either side is not finite
    print(f"{len(tokens)} tokens, vocabulary {model.config.vocab_size}, transformers {transformers.__version__}: "
          f"largest absolute difference {difference.abs().max().item():.3g}, relative difference {relative:.3g} "
          f"({'at most' if agrees else 'not within'} {arguments.threshold:g})")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
