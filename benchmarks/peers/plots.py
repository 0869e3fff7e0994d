"""Plots of time against batch size: ``python -m benchmarks.peers.plots`` draws them from the JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..harness import RESULTS

GROUPS = {"peers.elementwise": ("elementwise loss and gradient", "value and gradient"),
          "peers.mlp": ("gradient of the perceptron 784-512-512-10", "784-512-512-10")}
STYLES = {"minigrad native": ("#c2410c", "o"), "minigrad numpy": ("#fb923c", "s"), "JAX jit": ("#0f766e", "^"),
          "torch eager": ("#6d28d9", "v"), "torch.func": ("#a78bfa", "<"), "torch.compile": ("#1d4ed8", ">"),
          "PyTensor": ("#737373", "D"), "autograd": ("#a3a3a3", "d"), "numba by hand": ("#65a30d", "P")}


def curves(cases: list[dict[str, Any]]) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """Return each contestant's points, in order: the batch, and the spread of its times."""
    points: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for case in sorted(cases, key=lambda c: c["more"]["size"]):
        for name, row in case["rows"].items():
            points.setdefault(name, []).append((case["more"]["size"], row))
    return points


def draw(cases: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the time per example over the batch, both logarithmic, 10 % to 90 % of the rounds as bars."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minigrad", "font.size": 9}):
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for name, points in curves(cases).items():
            sizes = [n for n, _ in points]
            times, low, high = ([1e6 * row[k] / n for n, row in points] for k in ("median", "p10", "p90"))
            colour, marker = STYLES[name]
            axes.plot(sizes, times, color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)
            axes.vlines(sizes, low, high, color=colour, linewidth=0.8)
        limit = [(c["more"]["size"], 1e6 * c["more"]["limit"]["seconds"] / c["more"]["size"]) for c in cases]
        axes.plot(*zip(*sorted(limit), strict=True), color="black", linestyle=":", linewidth=1, label="limit")
        axes.set(xscale="log", yscale="log", xlabel="examples in a batch", ylabel="µs per example", title=title)
        axes.grid(alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw the picture of each group that was measured."""
    for group, (title, which) in GROUPS.items():
        source = RESULTS / f"{group}.json"
        if source.exists():
            cases = [c for c in json.loads(source.read_text())["cases"] if c["title"].startswith(which)]
            draw(cases, title, source.with_suffix(".svg"))
            print(source.with_suffix(".svg"))


if __name__ == "__main__":
    main()
