"""Work without dependence on each other, side by side.

Simple launches are merged into one: a launch costs more than most small copies take. Those that read arguments alone go
to the front, and those that write results alone go to the end; there, and wherever else they follow each other, they
share a launch. Each keeps its own range of blocks.

Products join the products before them, and run on streams of their own in a captured graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .codegen import Param
from .device import BESIDE
from .gemm import Multiply
from .kernels import Launch, Sizes

MOST = 16  # launches in one
_NEAR = 8  # groups that a product moves ahead of, at most: its result takes memory from there on


def is_simple(op: Any) -> bool:
    """Tell whether an op is a launch without reductions, whose blocks know nothing of each other."""
    return isinstance(op, Launch) and op.simple


def arrange(ops: Sequence[Any], inputs: int, forks: bool = True) -> list[list[Any]]:
    """Return the ops in an order in which as many as can be are side by side: a list each.

    The first `inputs` slots of the table are arguments, the others results. Products are side by side where `forks`.
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
        elif forks and isinstance(op, Multiply) and (group := _beside(op, out)) is not None:
            group.append(op)
        else:
            out.append([op])
    return out


def _beside(op: Multiply, groups: Sequence[list[Any]]) -> list[Any] | None:
    """Return the last products that a product can run at the same time as, if any are near."""
    for group in groups[:-_NEAR - 1:-1]:
        if any(depends(op, other) for other in group):
            return None
        if isinstance(group[0], Multiply) and len(group) < BESIDE:
            return group
    return None


def depends(op: Any, other: Any) -> bool:
    """Tell whether a launch or a product needs what another op writes, or may write."""
    made = other.made if isinstance(other, (Launch, Multiply)) else other.touched
    return not op.needs.isdisjoint(made) or bool(isinstance(other, Launch) and op.slots & other.slots_made)


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
