#!/usr/bin/env python3
"""Draws the curves of one or more runs from their metrics.jsonl as one SVG or PNG:

    plot_metrics.py RUN_DIR_OR_METRICS_JSONL... --output curves.svg [--label NAME]... [--title TEXT] [--also KEY]...
                    [--load]

Panels: loss with validation/loss, learning_rate, grad_norm, and one for each --also KEY; with --load one for each layer
with experts: from the least load of an expert to the most, over the layer's mean. A panel that no run has values for is
left out. Needs matplotlib only. Exit code 2 for unusable input.
"""

import argparse
import json
import math
import pathlib
import sys
from typing import NoReturn

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

STAGES = "(beginnings of stages)"
LOAD = "moe/load/"  # + layer: a list, the tokens of each expert
LEAST, MOST = " (least)", " (most)"
MOST_POINTS = 600  # of one curve; more would make the file large and look the same
PANELS = {"loss": ["loss", "validation/loss"], "learning rate": ["learning_rate"], "gradient norm": ["grad_norm"]}


def fail(message: str) -> NoReturn:
    print(f"plot_metrics: {message}", file=sys.stderr)
    sys.exit(2)


def read_metrics(path: pathlib.Path) -> dict[str, dict[int, float]]:
    """key -> step -> value; of the loads of experts the least and the most over the mean, as keys + LEAST and MOST. A step
    that a resumed run wrote again counts once, as written last. The steps of a stage are counted on from those of the
    stage before it; where it begins is the key STAGES."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: {error}")
    curves: dict[str, dict[int, float]] = {STAGES: {}}
    stage, first, last = None, 0, 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                print(f"plot_metrics: {path}:{number}: unfinished last line left out", file=sys.stderr)
                continue
            fail(f"{path}:{number}: not JSON: {error}")
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            fail(f"{path}:{number}: expected an object with an integer \"step\"")
        if entry.get("stage") != stage:
            first = last if stage is not None else 0
            stage = entry.get("stage")
            curves[STAGES][first] = 0.0
        step = first + entry["step"]
        last = max(last, step)
        for key, value in entry.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                curves.setdefault(key, {})[step] = value
            elif key.startswith(LOAD) and isinstance(value, list) and sum(value) > 0:
                mean = sum(value) / len(value)
                curves.setdefault(key + LEAST, {})[step] = min(value) / mean
                curves.setdefault(key + MOST, {})[step] = max(value) / mean
    return curves


def thin(points: dict[int, float]) -> tuple[list[float], list[float]]:
    """Steps and values in order of steps; where there are too many, the means of equal numbers of neighbours."""
    ordered = sorted(points.items())
    size = math.ceil(len(ordered) / MOST_POINTS)
    groups = [ordered[start:start + size] for start in range(0, len(ordered), size)]
    return ([sum(step for step, _ in group) / len(group) for group in groups],
            [sum(value for _, value in group) / len(group) for group in groups])


def draw(runs: dict[str, dict], panels: dict[str, list[str]], title: str | None, output: pathlib.Path) -> None:
    """One column of panels over a common axis of steps, one colour a run; validation dashed with markers."""
    # Text stays text, and the same metrics give the same bytes.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "flyover", "font.size": 9,
                         "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3})
    heights = [2 if name == "loss" else 1 for name in panels]
    figure, axes = plt.subplots(len(panels), 1, sharex=True, squeeze=False, figsize=(7, 1.2 + 1.4 * sum(heights)),
                                height_ratios=heights, layout="constrained")
    for axis, (name, keys) in zip(axes[:, 0], panels.items()):
        for index, (label, curves) in enumerate(runs.items()):
            for begin in list(curves[STAGES])[1:]:
                axis.axvline(begin, color=f"C{index % 10}", linewidth=0.8, linestyle=":")
            for key in keys:
                if key not in curves:
                    continue
                steps, values = thin(curves[key])
                validation = key.startswith("validation/")
                dots = len(steps) == 1 or (validation and len(steps) <= 60)
                axis.plot(steps, values, color=f"C{index % 10}", linewidth=1.8 if validation else 1.1,
                          linestyle="--" if validation else "-", alpha=1 if validation else 0.7,
                          marker="o" if dots else None, markersize=4,
                          label=f"{label}: {'validation' if validation else 'training'}")
            if keys[0].endswith(LEAST) and keys[0] in curves:
                (steps, least), (_, most) = (thin(curves[key]) for key in keys)
                axis.fill_between(steps, least, most, color=f"C{index % 10}", alpha=0.2, linewidth=0)
        axis.set_ylabel(name)
    axes[-1, 0].set_xlabel("step")
    if "loss" in panels:
        axes[0, 0].legend(frameon=False)
    elif len(runs) > 1:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", frameon=False)
    if title:
        figure.suptitle(title)
    metadata = {"Date": None} if output.suffix == ".svg" else None
    figure.savefig(output, dpi=110, metadata=metadata)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=pathlib.Path, nargs="+", help="run directories or metrics.jsonl files")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="file to write, .svg or .png")
    parser.add_argument("--label", action="append", help="name of a run, once for each, in order (default: directory)")
    parser.add_argument("--title")
    parser.add_argument("--also", action="append", default=[], metavar="KEY", help="one more panel, for this key")
    parser.add_argument("--load", action="store_true", help="one more panel for each layer with experts: their load")
    arguments = parser.parse_args()

    if arguments.output.suffix not in (".svg", ".png"):
        fail(f"--output {arguments.output}: expected a name that ends in .svg or .png")
    files = [path / "metrics.jsonl" if path.is_dir() else path for path in arguments.runs]
    labels = arguments.label or [path.resolve().parent.name for path in files]
    if len(labels) != len(files) or len(set(labels)) != len(labels):
        fail(f"{len(files)} runs need as many different names; found {labels}: give each with --label")
    runs = {label: read_metrics(path) for label, path in zip(labels, files)}
    found = list(dict.fromkeys(key for curves in runs.values() for key in curves))
    layers = [key.removesuffix(MOST) for key in found if key.endswith(MOST)] if arguments.load else []
    wanted = PANELS | {key: [key] for key in arguments.also}
    wanted |= {f"load, layer {key.removeprefix(LOAD)}": [key + LEAST, key + MOST] for key in layers}
    panels = {name: keys for name, keys in wanted.items() if set(keys).intersection(found)}
    if not panels:
        fail(f"no values of {[key for keys in wanted.values() for key in keys]} in {[str(path) for path in files]}")
    draw(runs, panels, arguments.title, arguments.output)
    print(f"{arguments.output}: {', '.join(panels)} of {len(runs)} run(s), {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
