"""Launches that do not need each other, side by side in one: a launch costs more than most small copies take.

Those that read arguments alone go to the front, and those that write results alone go to the end; there, and wherever
else they follow each other, they share a launch. Each keeps its own range of blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .element import Param
from .kernels import Launch, Sizes

MOST = 16  # launches in one


def is_simple(op: Any) -> bool:
    """Tell whether an op is a launch without reductions, whose blocks know nothing of each other."""
    return isinstance(op, Launch) and op.simple


def arrange(ops: Sequence[Any], inputs: int) -> list[list[Any]]:
    """Return the ops in an order in which as many as can be are side by side: a list each.

    The first `inputs` slots of the table are arguments, the others results.
    """
    read = {s for op in ops if isinstance(op, Launch) for s in op.slots - op.slots_made}
    first = [op for op in ops if is_simple(op) and not op.needs and max(op.slots - op.slots_made, default=-1) < inputs]
    ahead = set(map(id, first))
    last = [op for op in ops if is_simple(op) and id(op) not in ahead and not op.made and not op.slots_made & read]
    moved = ahead.union(map(id, last))
    out: list[list[Any]] = []
    for op in [*first, *(op for op in ops if id(op) not in moved), *last]:
        if out and is_simple(op) and len(out[-1]) < MOST and all(
                is_simple(other) and not depends(op, other) for other in out[-1]):
            out[-1].append(op)
        else:
            out.append([op])
    return out


def depends(op: Launch, other: Launch) -> bool:
    """Tell whether a launch needs what another one writes."""
    return bool(op.needs & other.made or op.slots & other.slots_made)


def merge(launches: Sequence[Launch], name_of: Callable[[str], str]) -> Launch:
    """Return several launches as one, each of them a function that it calls.

    `name_of` returns the name of the function with a text, the same for equal ones.
    """
    params: dict[Any, Param] = {}
    lines: list[str] = []
    starts: list[str] = []
    for k, launch in enumerate(launches):
        head, _, rest = launch.body.partition(") {")
        text = f"{head}, const I block, const I blocks) {{{rest}".replace("blockIdx.x", "block").replace(
            "gridDim.x", "blocks")
        function = name_of(text)
        names = []
        for p in launch.params:
            kind = p.text[:-len(p.name)]
            key = p.kind, (k, p.what) if p.kind == "own" else p.what, kind
            params.setdefault(key, Param(p.kind, key[1], f"x{len(params)}", f"{kind}x{len(params)}"))
            names.append(params[key].name)
        count = params.setdefault(("own", ("blocks", k)), Param("own", ("blocks", k), f"x{len(params)}",
                                                                f"const I x{len(params)}")).name
        base = " - ".join(["(I)blockIdx.x", *starts])
        test = f"if ((I)blockIdx.x < {' + '.join([*starts, count])}) " if k < len(launches) - 1 else ""
        lines.append(f"    {'else ' * bool(k)}{test}{function}({', '.join([*names, base, count])});")
        starts.append(count)

    def arguments(sizes: Sizes) -> dict[Any, int]:
        found: dict[Any, int] = {}
        for k, launch in enumerate(launches):
            found |= {(k, name): n for name, n in launch.arguments(sizes).items()}
            found["blocks", k] = launch.blocks(sizes)
        return found

    body = "\n".join([f"({', '.join(p.text for p in params.values())}) {{", *lines, "}"])
    return Launch(body, list(params.values()), [k for op in launches for k in op.writes],
                  lambda sizes: sum(op.blocks(sizes) for op in launches), arguments=arguments,
                  nodes=[n for op in launches for n in op.nodes])
