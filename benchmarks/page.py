"""The results as a page: ``python -m benchmarks.page`` writes ``results/README.md`` from the JSON files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS / "README.md"
_UNITS = {"s": (1.0, "s"), "ms": (1e3, "ms"), "µs": (1e6, "µs"), "MB": (1e-6, "MB")}


def page() -> str:
    """Return the page: each benchmark's conditions and tables, and what was promised beside what was found."""
    lines = ["# Results", "",
             "Written by `python -m benchmarks.page` from the files beside it, which `python -m benchmarks` writes.",
             "Contestants take turns in one process; times are medians, ratios are medians of each round's ratio.", ""]
    for path in sorted(RESULTS.glob("*.json")):
        lines += _benchmark(json.loads(path.read_text()))
    return "\n".join(lines)


def _benchmark(data: dict[str, Any]) -> list[str]:
    machine, versions = data["machine"], ", ".join(f"{k} {v}" for k, v in data["versions"].items())
    lines = [f"## {data['benchmark']}", "",
             f"{data['date']}, {machine['cpu']}, {machine['cores']} cores; {versions}.", ""]
    for case in data["cases"]:
        scale, unit = _UNITS[case["unit"]]
        lines += [f"**{case['title']}**", "", f"| | median {unit} | 10 % to 90 % | of {case['reference']} |",
                  "|---|---|---|---|"]
        for name, row in case["rows"].items():
            spread = f"{scale * row['p10']:.4g} to {scale * row['p90']:.4g}"
            lines.append(f"| {name} | {scale * row['median']:.4g} | {spread} | {row['ratio']['median']:.3g} |")
        lines += [f"| {name} | absent: {why} | | |" for name, why in case["absent"].items()] + [""]
    lines += ["| promised | found | |", "|---|---|---|"]
    for t in data["targets"]:
        found = "not measured" if t["value"] is None else f"{t['value']:.4g}"
        word = {True: "met", False: "missed", None: ""}[t["met"]]
        lines.append(f"| {t['text']} ({'≥' if t['at_least'] else '≤'} {t['bound']:g}) | {found} | {word} |")
    return [*lines, "", *(f"- {k}: {v}" for k, v in data["notes"].items()), ""]


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
