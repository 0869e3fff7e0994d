"""The text of a NumPy program for a `Plan`, and the items of its workspace.

The main function takes the inputs and the items. A group of statements is a function of its own, called once where its
rows fit into the cache, and otherwise block by block.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from dataclasses import dataclass

from ..graph import Node
from ..ops.constants import full
from ..ops.einsum import einsum
from ..ops.index import gather, lockstep, scatter_add
from ..ops.subgraph import symbols_of
from ..passes.fuse import reads_rows, terminal
from ..passes.lower_einsum import canonical
from ..passes.schedule import Plan, Step
from ..primitive import input_
from ..symbolic import Dim, Symbol
from ..views import SAME, added
from . import numpy_text as nt
from .block_loop import PARTS, ROWS, SCRATCH, WHOLE
from .subgraph import is_new
from .workspace import BlocksItem, BufferItem, EvaluationItem, Item, LeafItem, ScratchItem, SizeItem, ViewItem

HEAD = f"""import numpy as np

from minigrad.backends.block_loop import in_blocks
from minigrad.ops.elementwise import {', '.join(sorted(f'{prim.name}_into' for prim in nt.INTO))}
from minigrad.ops.sum_rows import sum_gathered, sum_rows, take_rows"""

_PLAIN = re.compile(r"[A-Za-z](\w*[A-Za-z0-9])?", re.ASCII)  # a name that is legal as it stands, or a keyword


@dataclass(eq=False, repr=False)
class Source:
    """The text of a program and the arguments of its main function.

    Attributes
    ----------
    text : str
    items : list of Item
        The items of the workspace, in order; `arguments` names the arguments of main after the inputs.
    symbols : list of Symbol
        The symbolic sizes that the program depends on.
    """

    text: str
    items: list[Item]
    arguments: list[str]
    symbols: list[Symbol]


class Names:
    """Unique and legal Python names."""

    def __init__(self) -> None:
        self._used = {"np", "main", "len", "in_blocks", "sum_gathered", "sum_rows", "take_rows",
                      *(f"{prim.name}_into" for prim in nt.INTO)}

    def __call__(self, wish: str) -> str:
        if not _PLAIN.fullmatch(wish):
            wish = unicodedata.normalize("NFKC", wish)  # Python normalizes names: two could become one
            wish = re.sub(r"\W+", "_", wish).strip("_") or "x"
            if not wish.isidentifier():
                wish = "_" + (wish if f"_{wish}".isidentifier() else re.sub(r"\W+", "_", wish, flags=re.ASCII))
        name, i = f"_{wish}" if keyword.iskeyword(wish) else wish, 1
        while name in self._used:
            i += 1
            name = f"{wish}_{i}"
        self._used.add(name)
        return name


class Printer:
    """Prints one plan."""

    def __init__(self, plan: Plan):
        self.plan, self.graph, self.roles = plan, plan.graph, plan.roles
        self.name = Names()
        self.items: list[Item] = []
        self.lines: list[str] = []  # of main
        self.used: set[str] = set()  # names that they read
        self.functions: list[str] = []
        self.bodies: dict[str, str] = {}  # a function's parameters and statements -> its name
        self.known: dict[object, str] = {}  # a node, evaluation or slot -> its name in main
        self.ready: set[str] = set()  # names that the workspace provides
        self.number = {n: i for i, n in enumerate(
            (n for n in self.graph.nodes if n.prim not in (input_, full)), 1)}
        self.inputs = [self.name(text) for text in self.graph.names]
        self.known.update(zip(self.graph.inputs, self.inputs, strict=True))
        self.symbols = {s: self.name(s.name) for s in sorted(symbols_of(self.graph), key=lambda s: s.uid)}
        self._comments: dict[object, str] = {}  # of each place

    # -- names and lines of main ---------------------------------------------------------------------

    def item(self, item: Item) -> str:
        """Add an item to the workspace, and return its name."""
        self.items.append(item)
        self.ready.add(item.name)
        return item.name

    def argument(self, item: Item) -> str:
        """Add an item that main reads, and return its name."""
        self.used.add(item.name)
        return self.item(item)

    def size(self, n: int | Dim) -> str:
        """Return the text of a size, and add its symbols to the workspace."""
        if isinstance(n, Dim):
            for s in n.symbols:
                if self.symbols[s] not in self.ready:
                    self.argument(SizeItem(self.symbols[s], s))
        return nt.size_text(n, self.symbols.__getitem__)

    def shape(self, node: Node) -> str:
        return nt.tuple_text([self.size(n) for n in node.shape])

    def comment(self, node: Node) -> str:
        """Return a node's line of the user's code as a comment."""
        key = node.loc or node.where
        return self._comments.get(key) or self._comments.setdefault(key, nt.comment(node.where))

    def value(self, node: Node) -> str:
        """Return the name of the array of a leaf, view or computed value, for a line of main."""
        name = self._value(node)
        self.used.add(name)
        return name

    def _value(self, node: Node) -> str:
        name = self.known.get(node)
        if name is not None:
            return name
        wish = f"v{self.number[node]}" if node in self.number else "c"
        if self.roles.is_view(node):
            source = self._value(node.inputs[0])
            if node.prim.view is SAME:
                name = source
            elif source in self.ready:
                name = self.item(ViewItem(self.name(wish), node, source))
            else:
                name = self.name(wish)
                shape = self.shape(node) if nt.contains_shape(node) else ""
                self.lines.append(f"{name} = {nt.view_text(node, source, shape)}")
        elif node in self.plan.takes:
            name = self._value(self.plan.takes[node])
        elif node in self.plan.place:
            name = self.item(BufferItem(self.name(wish), node))
        else:
            name = self.item(LeafItem(self.name(wish), node))
        self.known[node] = name
        return name

    def evaluator(self, node: Node) -> str:
        """Return the name of the function that evaluates `node`'s primitive."""
        key = ("eval", node)
        if key not in self.known:
            self.known[key] = self.argument(EvaluationItem(self.name(f"{node.prim.name}_{self.number[node]}"), node))
        return self.known[key]

    # -- the program ---------------------------------------------------------------------------------

    def print(self) -> Source:
        releases: dict[int, list[Node]] = {}
        for n, k in self.plan.last_use.items():
            releases.setdefault(k, []).append(n)
        for k, step in enumerate(self.plan.steps):
            if step.group.rows is None:
                self._alone(step.group.nodes[0])
            elif len(step.group.nodes) == 1:
                self._inline(step.group.nodes[0])
            else:
                self._group(k, step)
            gone = [self.known[n] for n in releases.get(k, ()) if n in self.known and self.known[n] not in self.ready
                    and n not in self.plan.outputs]
            if gone:
                self.lines.append(f"del {', '.join(gone)}")
        self._return()
        body, arguments = self._main()
        text = "\n\n\n".join([HEAD, *self.functions, body]) + "\n"
        return Source(text, self.items, arguments, list(self.symbols))

    def _out(self, node: Node) -> str:
        """Return the name of the array for a managed value; allocate an output."""
        k = self.plan.outputs.get(node)
        if k is None:
            return self.value(node)
        if node not in self.known:
            name = self.known[node] = self.name(self.graph.out_names[k] if self.graph.out_names else "out")
            self.lines.append(f"{name} = {nt.array_text(node, self.shape(node), 'empty')}")
        return self.known[node]

    def _operand(self, node: Node, spread: bool) -> str:
        """Return the text of an operand of a statement in main."""
        if spread and node.prim is full:
            return nt.number(node)
        if spread and (axes := added(node)):
            return nt.broadcast_text(self.value(node.inputs[0]), node.ndim, axes)
        return self.value(node)

    def _inline(self, node: Node) -> None:
        """Print a statement that writes into given memory, in main."""
        xs = typed(node, [self._operand(i, nt.broadcasts(node)) for i in node.inputs])
        if node.prim is einsum:
            xs = [x if nt.fits_matmul(i) else f"np.ascontiguousarray({x})"
                  for x, i in zip(xs, node.inputs, strict=True)]
        first, *others = nt.statement(node, xs, self._out(node), self.evaluator)
        self.lines += [f"{first}  {self.comment(node)}", *others]

    def _alone(self, node: Node) -> None:
        if node in self.plan.place and (node.prim is not einsum or canonical(node.params["subscripts"])):
            self._inline(node)
            return
        xs = [self.value(i) for i in node.inputs]
        call = f"{self.evaluator(node)}({', '.join(xs)})"
        if node in self.plan.place:
            line = f"np.copyto({self._out(node)}, {call})"
        else:
            name = self.known[node] = self.name(f"v{self.number[node]}")
            line = f"{name} = {call}"
        self.lines.append(f"{line}  {self.comment(node)}")

    def _group(self, k: int, step: Step) -> None:
        writer = GroupWriter(self, step, k)
        writer.write()
        args = list(writer.args.values())
        body = writer.text()
        function = self.bodies.get(body)
        if function is None:  # equal layers share a function
            function = self.bodies[body] = self.name(f"fused_{len(self.bodies) + 1}")
            self.functions.append(f"def {function}{body}")
        parts = tuple(a.node for a in args if a.mode == PARTS and a.node is not None)
        blocks = self.argument(BlocksItem(self.name(f"blocks_{k}"), k, tuple(a.mode for a in args), parts))
        self.lines.append(f"in_blocks({', '.join((blocks, function, *(a.actual for a in args)))})")

    def _return(self) -> None:
        results = []
        returned: set[Node] = set()
        for k, n in enumerate(self.graph.outputs):
            source = self.roles.root[n]
            if self.plan.outputs.get(source) == k and source not in returned:
                returned.add(source)
                results.append(self.value(n))
                continue
            name = self.name(self.graph.out_names[k] if self.graph.out_names else "out")
            text = self.value(n) if is_new(n, self.graph.outputs) else (
                nt.array_text(n, self.shape(n), "full", nt.number(n)) if n.prim is full
                else f"np.array({self.value(n)})")
            self.lines.append(f"{name} = {text}")
            results.append(name)
        self.lines.append(f"return [{', '.join(results)}]")

    def _main(self) -> tuple[str, list[str]]:
        """Return the text of main, and its items."""
        arguments = [i.name for i in self.items if i.name in self.used]
        notes = map(nt.comment, self._notes(set(arguments)))
        return "\n    ".join([f"def main({', '.join((*self.inputs, *arguments))}):", *notes, *self.lines]), arguments

    def _notes(self, arguments: set[str]) -> list[str]:
        notes = []
        for i in self.items:
            if i.name not in arguments:
                continue
            if isinstance(i, BufferItem):
                notes.append(f"{i.name}: {i.node.type}")
            elif isinstance(i, ViewItem):
                notes.append(f"{i.name} = {nt.view_text(i.node, i.source, self.shape(i.node))}")
            elif isinstance(i, LeafItem):
                notes.append(f"{i.name}: {i.node.prim.name} {i.node.type}")
        return notes


@dataclass(eq=False, repr=False)
class Arg:
    name: str
    mode: str
    actual: str
    node: Node | None = None


class GroupWriter:
    """Prints one group as a function of a block of rows.

    Its parameters are called ``x`` (rows of operands), ``y`` (rows of results), ``s`` (scratch), ``w`` (whole operands)
    and ``r`` (results of reductions over the rows), so that equal groups are equal texts.
    """

    def __init__(self, printer: Printer, step: Step, k: int):
        self.main, self.step, self.k = printer, step, k
        self.roles = printer.roles
        self.args: dict[tuple[str, str], Arg] = {}
        self.local: dict[Node, str] = {}
        self.lines: list[str] = []
        self._count = dict.fromkeys("xyswr", 0)

    def arg(self, letter: str, mode: str, actual: str, node: Node | None = None) -> str:
        have = self.args.get((mode, actual))
        if have is None:
            name = f"{letter}{self._count[letter]}"
            self._count[letter] += 1
            have = self.args[mode, actual] = Arg(name, mode, actual, node)
        return have.name

    def write(self) -> None:
        where = None
        for n in self.step.group.nodes:
            xs = self.operands(n)
            out = self.out(n)
            if (comment := self.main.comment(n)) != where:
                where = comment
                self.lines.append(comment)
            self.lines += nt.statement(n, xs, out, self.evaluator)

    def operands(self, n: Node) -> list[str]:
        if n.prim not in (gather, scatter_add):
            return typed(n, [self.operand(i, True, nt.broadcasts(n)) for i in n.inputs])
        array, first, *others = n.inputs
        xs = [self.operand(array, reads_rows(n, array), nt.broadcasts(n))]
        if lockstep(n):  # a block's rows are counted from its own first one
            iota = first.inputs[0] if added(first) else first
            count = self.arg("s", SCRATCH, self.main.value(iota))
            xs.append(nt.broadcast_text(count, first.ndim, range(1, first.ndim)))
        else:
            xs.append(self.operand(first, True, False))
        return xs + [self.operand(i, True, False) for i in others]

    def evaluator(self, node: Node) -> str:
        return self.arg("w", WHOLE, self.main.evaluator(node))

    def text(self) -> str:
        params = ", ".join(a.name for a in self.args.values())
        return "\n".join([f"({params}):", *("    " + line for line in self.lines)])

    def out(self, n: Node) -> str:
        slot = self.step.scratch.get(n)
        if slot is not None:
            key = ("scratch", self.k, slot, n.shape, n.dtype)
            if key not in self.main.known:
                self.main.known[key] = self.main.argument(ScratchItem(
                    self.main.name(f"s{self.k}_{slot}"), n, self.k, slot))
            name = self.arg("s", SCRATCH, self.main.known[key])
        else:
            head = self.step.heads.get(n, n)
            ends = terminal(n)
            name = self.arg("r" if ends else "y", PARTS if ends else ROWS, self.main._out(head), head)
        self.local[n] = name
        return name

    def operand(self, node: Node, rows: bool, spread: bool) -> str:
        roles = self.roles
        if node in self.local:
            return self.local[node]
        if spread and node.prim is full:
            return nt.number(node)
        inside = roles.root[node] in self.local
        if (inside or spread) and (axes := added(node)):
            source = node.inputs[0]
            base = self.operand(source, rows and 0 not in axes, False)
            text = nt.broadcast_text(base, node.ndim, axes)
            return text if spread else f"np.broadcast_to({text}, {self.shape(node, base)})"
        if roles.is_view(node) and inside:
            base = self.operand(node.inputs[0], True, False)
            return nt.view_text(node, base, self.shape(node, base) if nt.contains_shape(node) else "")
        return self.arg("x" if rows else "w", ROWS if rows else WHOLE, self.main.value(node), node)

    def shape(self, node: Node, base: str) -> str:
        # Each symbol is an argument, whose name depends on its position.
        sizes = [re.sub(r"[^\W\d]\w*", lambda m: self.arg("w", WHOLE, m[0]), self.main.size(n)) for n in node.shape[1:]]
        return nt.tuple_text([f"len({base})", *sizes])


def typed(node: Node, xs: list[str]) -> list[str]:
    """Return the operands, with a dtype where all of them are constants."""
    if node.inputs and all(i.prim is full for i in node.inputs):
        return [f"{nt.dtype_text(i.dtype)}({x})" for i, x in zip(node.inputs, xs, strict=True)]
    return xs
