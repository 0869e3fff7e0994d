"""The results as pages: ``python -m benchmarks.page`` writes ``results/README.md`` from the JSON files beside it.

It also writes the table of ten rows in the project's README. A record of another machine has a label in its file's
name, as ``gemm.xeon.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS / "README.md"
_UNITS = {"s": (1.0, "s"), "ms": (1e3, "ms"), "µs": (1e6, "µs"), "MB": (1e-6, "MB")}
_PEERS = "peers."
README = Path(__file__).parents[1] / "README.md"
# The rows of README's table: the file, the beginning of the case's title, the label, and the contestants.
_ROWS = (
    ("peers.elementwise", "value and gradient, 1,000,000", "Elementwise loss, 1,000,000 examples", "torch eager"),
    ("peers.mlp", "784-512-512-10, value and gradient, batch 1", "MLP 784-512-512-10, batch 1", "torch eager"),
    ("peers.mlp", "784-512-512-10, value and gradient, batch 1,024", "MLP 784-512-512-10, batch 1,024", "torch eager"),
    ("peers.attention", "", "Layer norm and attention, batch 32", "torch eager"),
    ("peers.rnn", "", "Recurrent network, 100 steps, batch 64", "torch eager"),
    ("peers.mixture", "", "Mixture of 16 Gaussians, 10,000 points", "torch eager"),
    ("peers.norms", "", "Norms of 128 per-example gradients", "torch.func"),
    ("peers.cold", "process start to first gradient: 784", "Process start to first gradient of an MLP", "torch eager"),
    ("graphs", "training step", "Training step on 128 molecules (GCN)", "PyG"),
    ("sequences", "value and gradient, 64 strings as they come", "Attention over 64 strings of all lengths",
     "PyTorch, padded"))
_LABELS = {"torch eager": "PyTorch", "PyG": "PyTorch Geometric"}


def page() -> str:
    """Return the page: each benchmark's conditions and tables, and its targets beside the results."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    lines = ["# Results", "",
             "Written by `python -m benchmarks.page` from the files beside it, which `python -m benchmarks` writes.",
             "Contestants take turns in one process; times are medians, ratios are medians of each round's ratio.", ""]
    if peers := {name: data for name, data in found.items() if name.startswith(_PEERS)}:
        lines += _overview(peers)
    for name, data in found.items():
        lines += _benchmark(name, data)
    return "\n".join(lines)


def readme(text: str) -> str:
    """Return README's text with its table of results."""
    lines = ["| time over minigrad's | JAX | PyTorch |", "|---|---|---|"]
    for name, title, label, torch in _ROWS:
        cases = json.loads((RESULTS / f"{name}.json").read_text())["cases"]
        rows = next(case["rows"] for case in cases if case["title"].startswith(title))
        jax, other = (f"{rows[n]['ratio']['median']:.3g} ×" if n in rows else "" for n in ("JAX jit", torch))
        by = "" if torch == "torch eager" else f" ({_LABELS.get(torch, torch)})"
        lines.append(f"| {label} | {jax} | {other}{by} |")
    begin, end = "<!-- results -->\n", "<!-- end of results -->"
    before, _, rest = text.partition(begin)
    return before + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]


def _overview(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return one line per table of the peers: how many times as long as minigrad each of them takes."""
    cases = [(name, case) for name, data in found.items() for case in data["cases"]]
    names = list(dict.fromkeys(row for _, case in cases for row in (*case["rows"], *case["absent"])))
    names.sort(key=lambda name: not name.startswith("minigrad"))
    lines = ["## minigrad beside its peers", "",
             "How many times as long each takes as the backend of minigrad that has 1: above 1, minigrad is faster. "
             "The tables below have times, spreads, and why a contestant is absent.", "",
             "Compile times are those of a fresh function in a process that has compiled before, but for torch.compile "
             "and PyTensor in the first table of a group; nothing is taken from a cache on disk. Peak memory is what a "
             "step takes beside its arguments, results included. The limit is the time below which no program can stay "
             "on this machine: what has to be read and written, at the bandwidth of a copy of that size, or its matrix "
             "products at the rate of the fastest large one, both measured in the same run.", "",
             "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, case in cases:
        ratios = [f"{case['rows'][n]['ratio']['median']:.3g}" if n in case["rows"] else "" for n in names]
        group = f"[{name.removeprefix(_PEERS)}](#{name.replace('.', '')})"
        lines.append(f"| {group}: {case['title']} | " + " | ".join(ratios) + " |")
    targets = [t for data in found.values() for t in data["targets"]]
    met, missed, unknown = (sum(t["met"] is word for t in targets) for word in (True, False, None))
    return [*lines, "", f"Of {len(targets)} goals, which stand below each group, {met} are met, {missed} are missed "
            f"and {unknown} were not measured.", ""]


def _benchmark(name: str, data: dict[str, Any]) -> list[str]:
    other = "" if name == data["benchmark"] else f", {data['machine']['cpu']}"
    lines = [f"## {data['benchmark']}{other}", "", f"{_conditions(data)}.", ""]
    for source in data.get("earlier", ()):
        lines += [f"{', '.join(source['rows'])}: {_conditions(source)}.", ""]
    if (RESULTS / f"{name}.svg").exists():
        lines += [f"![time per example over the batch]({name}.svg)", ""]
    if "lines" in data:
        lines += _curves(data)
    elif data["cases"] and all("rested" in row for case in data["cases"] for row in case["rows"].values()):
        lines += _programs(data["cases"])
    else:
        for case in data["cases"]:
            lines += _case(case)
    lines += ["| promised | found | |", "|---|---|---|"]
    for t in data["targets"]:
        found = "not measured" if t["value"] is None else f"{t['value']:.4g}"
        word = {True: "met", False: "missed", None: ""}[t["met"]]
        lines.append(f"| {t['text']} ({'≥' if t['at_least'] else '≤'} {t['bound']:g}) | {found} | {word} |")
    return [*lines, "", *(f"- {k}: {v}" for k, v in data["notes"].items()), ""]


def _conditions(source: dict[str, Any]) -> str:
    machine, versions = source["machine"], ", ".join(f"{k} {v}" for k, v in source["versions"].items())
    return f"{source['date']}, {machine['cpu']}, {machine['cores']} cores; {versions}"


def _programs(cases: list[dict[str, Any]]) -> list[str]:
    """Return one table of programs that ran back to back and after a rest, a line for each."""
    ours = cases[0]["reference"]
    peers = list(dict.fromkeys(name for case in cases for name in case["rows"] if name != ours))
    heads = [f"{ours} ms", *peers, "after a rest ms", *peers, "% of the limit"]
    lines = ["Each library's process has the machine for itself during its turn. Back to back, and the third call "
             f"after a rest of 50 ms: {ours}'s time, and how many times as long each peer takes.", "",
             f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for case in cases:
        row = case["rows"][ours]
        cells = []
        for time, ratio in (("", "ratio"), ("rested", "rested ratio")):
            cells.append(f"{1e3 * (row[time] if time else row)['median']:.4g}")
            cells += [f"{case['rows'][p][ratio]['median']:.3g} ×" if p in case["rows"] else "" for p in peers]
        lines.append(f"| {case['title']} | {' | '.join(cells)} | {100 * row['of the limit']:.2g} |")
    return [*lines, ""]


def _curves(data: dict[str, Any]) -> list[str]:
    """Return one table per curve, a line for each size, with the reasons of departures."""
    lines = ["Nanoseconds of a unit of work at each size; and why, where they depart from a contestant's lowest.", ""]
    for title, by_name in data["lines"].items():
        cases = [case for case in data["cases"] if case["title"].partition(": ")[2] == title]
        names = list(by_name)
        unit = by_name[names[0]]["unit"]
        lines += [f"**{title}**", "", f"| {unit}s | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for case in cases:
            n = case["more"]["size"]
            cells = [f"{1e9 * case['rows'][name]['median'] / n:.3g}" if name in case["rows"] else "" for name in names]
            lines.append(f"| {n:,} | {' | '.join(cells)} |")
        lines += ["", *(f"- {text}" for name, own in by_name.items() for text in _departures(name, own)), ""]
    return lines


def _departures(name: str, own: dict[str, Any]) -> list[str]:
    """Return a contestant's line and departures, in words."""
    slope = own["slope"]
    text = [f"{name}: {1e6 * own['fixed']:.3g} µs and {1e9 * own['each']:.3g} ns for each {own['unit']}; slope "
            f"{slope['median']:.2f} ({slope['p10']:.2f} to {slope['p90']:.2f})"]
    return text + [f"{name}, {d['size']:,}: {d['over the lowest']:.2g} times the lowest: {d['reason'] or 'not known'}"
                   for d in own["departures"]]


def _case(case: dict[str, Any]) -> list[str]:
    """Return one table, with a column for each number that any row has."""
    scale, unit = _UNITS[case["unit"]]
    more = [c for c in _COLUMNS if any(c in row for row in case["rows"].values())]
    heads = [f"median {unit}", "10 % to 90 %", f"of {case['reference']}", *(_COLUMNS[c][0] for c in more)]
    lines = [f"**{case['title']}**", "", f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, row in case["rows"].items():
        cells = [f"{scale * row['median']:.4g}", f"{scale * row['p10']:.4g} to {scale * row['p90']:.4g}",
                 f"{row['ratio']['median']:.3g}", *(_COLUMNS[c][1](row[c]) if row.get(c) is not None else ""
                                                    for c in more)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"| {name} | absent: {why} |" + " |" * (len(heads) - 1) for name, why in case["absent"].items()]
    if limit := case.get("more", {}).get("limit"):
        lines += ["", f"The limit is {1e3 * limit['seconds']:.3g} ms: {limit['nbytes'] / 1e6:.3g} MB to be read and "
                      f"written at {limit['bytes/s'] / 1e9:.3g} GB/s, and {limit['flops'] / 1e9:.3g} GFLOP of products "
                      f"at {limit['flop/s'] / 1e9:.3g} GFLOP/s, whichever takes longer."]
    return [*lines, ""]


_COLUMNS = {"third call after a rest": ("third call after a rest", lambda v: f"{v:.2f} ×"),
            "compile": ("compiled in s", lambda v: f"{v['median']:.3g}"),
            "peak": ("peak MB", lambda v: f"{v / 1e6:.3g}" if v >= 1e5 else "< 0.1"),
            "of the limit": ("% of the limit", lambda v: f"{100 * v:.2g}")}


if __name__ == "__main__":
    PAGE.write_text(page())
    README.write_text(readme(README.read_text()))
    print(PAGE, README)
