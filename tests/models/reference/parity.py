"""What the make_*_parity.py scripts share: float64 runs of transformers, what is stored of them, and how."""

import argparse
import contextlib
import json
import pathlib
import shutil
import unittest.mock

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

IGNORED = -100  # torch's label for "no target here"


class WideTorch:
    """The torch module with float32 renamed to float64."""

    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def wide_upcasts(*modules):
    """transformers casts norms, softmax and rotary angles to float32 whatever the model's type; here, to float64."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(unittest.mock.patch.object(module, "torch", WideTorch()))
        stack.enter_context(unittest.mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
        yield


def weight_values(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Values with a spread that makes every activation, attention score and gradient of order one."""
    noise = torch.randn(shape, generator=generator)
    if "norm" in name:
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.3 * noise
    if "embed_tokens" in name:
        return 0.5 * noise
    return 1.5 * noise / shape[-1] ** 0.5


def write_tensors(tensors: dict[str, torch.Tensor], path: pathlib.Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)


def stored_tensors(directory: pathlib.Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint under the names it stores them by."""
    tensors = {}
    for path in sorted(directory.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                tensors[name] = file.get_tensor(name)
    return tensors


def suffixes(documents: list) -> list[str]:
    """What follows `tokens` and `logits` in the names of each document."""
    return [""] if len(documents) == 1 else [f".{index}" for index in range(len(documents))]


def next_token_labels(tokens: torch.Tensor) -> torch.Tensor:
    return torch.cat([tokens[1:], torch.tensor([IGNORED])])


def mean_loss(logits: list[torch.Tensor], documents: list[torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the next token, the mean over the targets of all documents."""
    labels = torch.cat([next_token_labels(tokens) for tokens in documents])
    return torch.nn.functional.cross_entropy(torch.cat(logits), labels, ignore_index=IGNORED)


def compute(model: torch.nn.Module, documents: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits of each document on its own, the mean loss over all targets, the gradient of every parameter it reaches."""
    logits = [model(input_ids=tokens[None], use_cache=False).logits[0] for tokens in documents]
    loss = mean_loss(logits, documents)
    loss.backward()
    results = {f"logits{suffix}": value.detach() for suffix, value in zip(suffixes(documents), logits)}
    results["loss"] = loss.detach()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            results[f"gradient.{name}"] = parameter.grad
    for name, value in results.items():
        assert value.dtype == model.dtype and value.isfinite().all() and value.abs().max() > 0, name
    return results


def check_packing(model: torch.nn.Module, documents: list[torch.Tensor], results: dict[str, torch.Tensor]) -> None:
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


def write_expected(directory: pathlib.Path, documents: list[torch.Tensor], results: dict[str, torch.Tensor]) -> None:
    """expected.safetensors: the tokens, and the results rounded to float32 (whole numbers stay as they are)."""
    expected = {f"tokens{suffix}": tokens for suffix, tokens in zip(suffixes(documents), documents)}
    for name, value in results.items():
        expected[name] = (value.float() if value.is_floating_point() else value).contiguous()
    save_file(expected, directory / "expected.safetensors")
    (directory / "expected.safetensors").chmod(0o644)


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.double() - expected).norm() / expected.norm()).item()


def summary(parameters: int, narrow: dict[str, torch.Tensor], wide: dict[str, torch.Tensor]) -> dict:
    """The entry of one case in reference.json: its scale, and how far transformers' own float32 is."""
    def worst(kind: str) -> float:
        names = [name for name in wide if kind in name.partition(".")[0]]
        return float(f"{max(relative_difference(narrow[name], wide[name]) for name in names):.2g}")

    logits = torch.cat([value for name, value in wide.items() if name.startswith("logits")])
    gradients = [value.norm().item() for name, value in wide.items() if "gradient" in name]
    return {
        "parameters": parameters,
        "loss": round(wide["loss"].item(), 6),
        "logits_standard_deviation": round(logits.std().item(), 3),
        "smallest_gradient_norm": float(f"{min(gradients):.2g}"),
        "float32_to_float64": {"logits": worst("logits"), "worst_gradient": worst("gradient")},
    }


def run(description: str, default_output: pathlib.Path, cases: list, make) -> None:
    """The command line: writes every case below --output with make(case, index, output), and the report on all."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=default_output)
    output = parser.parse_args().output
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(output, ignore_errors=True)
    report = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "cases": {}}
    for index, case in enumerate(cases):
        report["cases"][case.name] = make(case, index, output)
        print(case.name, json.dumps(report["cases"][case.name]))
    (output / "reference.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{sum(path.stat().st_size for path in output.rglob('*') if path.is_file()):,} bytes in {output}")
