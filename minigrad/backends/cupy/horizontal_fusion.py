"""Horizontal fusion: independent launches and products side by side.

Simple launches are merged into one, since a launch costs more than most small copies. Those that read only arguments
move to the front, and those that write only results move to the end; neighbours share a launch. Each keeps its own
range of blocks.

Products join the products before them, and run on streams of their own in a captured graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .codegen import Key, Memory
from .device import BESIDE
from .gemm import Multiply
from .kernels import Kernel, Launch, Op, Sizes

MOST = 16  # launches in one
_NEAR = 8  # groups that a product moves ahead of, at most: its result takes memory from there on


def arrange(ops: Sequence[Op], inputs: int, forks: bool = True) -> list[list[Op]]:
    """Return the ops in an order that makes the groups side by side large: a list for each group.

    The first `inputs` slots of the table are arguments, the others results. Products are side by side where `forks`.
    """
    read = {s for op in ops for s in op.slots - op.slots_made}

    def rank(op: Op) -> int:
        if op.simple and not op.needs and max(op.slots - op.slots_made, default=-1) < inputs:
            return 0
        return 2 if op.simple and not op.made and not op.slots_made & read else 1

    out: list[list[Op]] = []
    for op in sorted(ops, key=rank):
        if out and op.simple and len(out[-1]) < MOST and all(
                other.simple and not depends(op, other) for other in out[-1]):
            out[-1].append(op)
        elif forks and isinstance(op, Multiply) and (group := _beside(op, out)) is not None:
            group.append(op)
        else:
            out.append([op])
    return out


def _beside(op: Multiply, groups: Sequence[list[Op]]) -> list[Op] | None:
    """Return the last group of products that a product can join, if one is near."""
    for group in groups[:-_NEAR - 1:-1]:
        if any(depends(op, other) for other in group):
            return None
        if isinstance(group[0], Multiply) and len(group) < BESIDE:
            return group
    return None


def depends(op: Op, other: Op) -> bool:
    """Return whether an op needs values or results that another one writes, or may write."""
    return not op.needs.isdisjoint(other.made) or not op.slots.isdisjoint(other.slots_made)


def merge(launches: Sequence[Launch], memory: Memory, name_of: Callable[[str], str]) -> Launch:
    """Return one launch that calls the kernels of several as functions.

    `name_of` returns the name of the function with a text, the same for equal ones.
    """
    w = Kernel(memory)
    starts: list[str] = []
    for k, launch in enumerate(launches):
        head, _, statements = launch.body.partition(") {")
        text = f"{head}, const I block, const I blocks) {{{statements}".replace("blockIdx.x", "block").replace(
            "gridDim.x", "blocks")
        names = [w.param(p.kind, (k, p.content) if p.kind == "own" else p.content, p.text[:-len(p.name) - 1], "x")
                 for p in launch.params]
        count = w.param("own", (k, "blocks"), "const I", "x")
        base = " - ".join(["(I)blockIdx.x", *starts])
        test = f"if ((I)blockIdx.x < {' + '.join([*starts, count])}) " if k < len(launches) - 1 else ""
        w.emit(f"{'else ' * bool(k)}{test}{name_of(text)}({', '.join([*names, base, count])});")
        starts.append(count)
        w.writes |= launch.writes

    def numbers(sizes: Sizes) -> dict[Key | str, int]:
        own: dict[Key | str, int] = {
            (k, name): n for k, launch in enumerate(launches) for name, n in launch.numbers(sizes).items()}
        return {**own, "blocks": sum(own[k, "blocks"] for k in range(len(launches)))}

    return replace(w.launch(numbers), nodes=[n for op in launches for n in op.nodes])
