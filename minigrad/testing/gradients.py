"""`check_grads`: derivatives against finite differences, and the first node with a wrong rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.random import default_rng

from .. import interpreters
from ..errors import CheckError, DtypeError, GradError, ShapeError, at_user_line
from ..graph import Graph, Node, PyTree, TupleType, zeros_like
from ..immutable import cached_property
from ..ops.constants import constant
from ..ops.control import parts
from ..ops.elementwise import stop_gradient
from ..primitive import placeholder
from ..tracebacks import boundary
from ..transforms.graph_forms import Argnums, select
from ..transforms.jacobian_products import require_tuples
from ..transforms.static_arguments import bound_static
from ..transforms.trace import Call, function_name
from .common import Checked, at_element, describe, element, number, precision, stage_precisely

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_MODES = {"rev": "reverse mode", "fwd": "forward mode"}
_STEPS = (1.0, 0.1, 0.01)  # smaller steps avoid a kink near the point
_ELEMENTS = 32  # the most elements of an array to check one by one; random directions cover the others


class Tolerance(NamedTuple):
    """The step of finite differences, and the tolerances of a derivative."""

    eps: float
    rtol: float
    atol: float


class Disagreement(NamedTuple):
    """An element of a leaf at which a slope (`slope`) and its finite difference (`difference`) differ."""

    leaf: int
    position: tuple[int, ...]
    slope: float
    difference: float


@boundary
def check_grads(f: Callable[..., PyTree], args: Sequence[PyTree], order: int = 2, argnums: Argnums | None = None,
                eps: float | None = None, rtol: float | None = None, atol: float | None = None,
                modes: Sequence[str] = ("rev", "fwd")) -> Checked:
    """Check the derivatives of `f` at `args` against central finite differences.

    The check sums the results of `f` with random weights, and moves each element of each argument (of an array with
    more than 32 elements, 32 elements and two random directions), in float64 where `f` accepts it. Values of
    `stop_gradient` are constants to the finite differences, too.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays, with at least one floating result.
    args : sequence
        Its arguments.
    order : {1, 2}
        2 also checks the derivatives of the gradient.
    argnums : int or sequence of int, optional
        The arguments to check; by default all floating leaves of all arguments.
    eps, rtol, atol : float, optional
        The step, and the tolerances of ``|derivative - difference| <= atol + rtol max(|derivative|, |difference|)``;
        by default from the coarsest dtype in the graph and the scale of the values.
    modes : sequence of {"rev", "fwd"}
        Reverse mode and forward mode; both are compared with the same differences, and so with each other.

    Returns
    -------
    Checked

    Raises
    ------
    CheckError
        If a derivative differs. The error names the argument, the element, both numbers, and the first node whose own
        rule differs from the finite difference of that node alone.
    GradError
        If there is nothing to differentiate, or `order` or `modes` are others.

    Examples
    --------
    >>> checked = mg.check_grads(lambda w, x: np.sum(np.tanh(w * x)), (np.array([0.5, 1.0]), 2.0))
    >>> checked.comparisons, checked.largest < 1e-5
    (18, True)
    """
    require_tuples("check_grads", f, args=args)
    if order not in (1, 2) or not modes or not set(modes) <= _MODES.keys():
        raise GradError(at_user_line(f"check_grads: order must be 1 or 2, and modes from {sorted(_MODES)}; got "
                                     f"{order!r}, {modes!r}"))
    f, args = bound_static(f, args)
    args, staged = stage_precisely(f, args, lambda args: Call(f, args).trace())
    leaves = [np.asarray(x, n.dtype) for x, n in zip(staged.call.leaves, staged.inputs, strict=True)]
    if argnums is None:
        wrt = [n for n in staged.inputs if n.type.floating]
    else:
        wrt, _ = select(staged.graph, argnums, "check_grads", staged.call)
    outputs = [n for n in staged.outputs if n.type.floating]
    if not wrt or not outputs:
        raise GradError(at_user_line(f"check_grads({staged.call.name}): no floating {'result' if wrt else 'argument'}, "
                                     "and derivatives need one"
                                     + ("" if staged.outputs else ". Did you forget `return`?")))
    graph = Graph(tuple(staged.inputs), tuple(outputs), staged.call.names, name=staged.call.name)
    total, largest = 0, 0.0
    graphs = {"": graph}  # derivatives so far, by their mode
    for level in range(1, order + 1):
        derived = {}
        for before, graph in graphs.items():
            slopes = Slopes(graph, leaves, wrt, level)
            slopes.refuse_infinite(function_name(f))
            for mode in modes:
                reason = slopes.malformed(mode)
                wrong = None if reason else slopes.first(mode, slopes.tolerance(eps, rtol, atol))
                if reason or wrong:
                    raise _error(f, slopes, before, mode, wrong, reason)
                derived[mode] = slopes.reverse if mode == "rev" else slopes.pushed
            total, largest = total + slopes.comparisons, max(largest, slopes.largest)
        graphs = derived
    orders = " and ".join(map(str, range(1, order + 1)))
    subject = f"check_grads({staged.call.name}): order {orders}, {' and '.join(modes)}"
    return Checked(subject, total, largest)


class Slopes:
    """Slopes of ``phi = Σ weights · outputs`` of a graph, by finite differences and by each mode.

    Each slope is that along one direction of one leaf.
    """

    def __init__(self, graph: Graph, arrays: Sequence[np.ndarray], wrt: Sequence[Node], seed: int, hold: bool = True):
        self.graph, self.arrays, self.wrt = graph, list(arrays), list(wrt)
        self._rng = default_rng(seed)
        self._positions = [graph.inputs.index(w) for w in wrt]
        self.scalar = len(graph.outputs) == 1 and graph.outputs[0].shape == ()
        self._weights = [np.asarray(1 if self.scalar else self._rng.uniform(0.5, 1.5, _shape(n)), n.dtype)
                         for n in graph.outputs]
        self._held = self._hold() if hold else graph
        self._forward: dict[int, Graph] = {}
        self.comparisons, self.largest = 0, 0.0

    def _hold(self) -> Graph:
        """Return the graph with the values of the user's `stop_gradient` as constants."""
        stops = [n for n in self.graph.nodes if n.prim is stop_gradient and not {"vjp", "jvp"} & set(n.rules)]
        values = interpreters.evaluate(self.graph.replace(outputs=tuple(stops), out_names=()), self.arrays)
        fixed = {n: constant(v) for n, v in zip(stops, values, strict=True)}
        return self.graph.replace(outputs=tuple(interpreters.substitute(self.graph.outputs, fixed)))

    def _phi(self, values: Sequence[ArrayLike]) -> float:
        return float(sum(np.sum(np.asarray(w, float) * v) for w, v in zip(self._weights, values, strict=True)))

    @cached_property
    def base(self) -> float:
        """The value of phi."""
        return self._phi(interpreters.evaluate(self._held, self.arrays))

    @cached_property
    def reverse(self) -> Graph:
        """The graph of the gradient of phi with respect to `wrt`."""
        back = interpreters.backward(self.graph.outputs, [constant(w) for w in self._weights], self.wrt)
        return Graph(self.graph.inputs, tuple(back), self.graph.names, name=f"grad({self.graph.name})")

    @cached_property
    def gradient(self) -> list[np.ndarray]:
        """The gradient of phi with respect to `wrt`."""
        return [np.asarray(g) for g in interpreters.evaluate(self.reverse, self.arrays)]

    def tolerance(self, eps: float | None, rtol: float | None, atol: float | None) -> Tolerance:
        """Return the given tolerances, and defaults by precision and scale."""
        roundoff = precision(self.graph)
        # The error of a central difference is about eps² f''' and roundoff |f| / eps: least at the cube root.
        relative, absolute = (1e-5, 1e-7) if roundoff < 1e-10 else (1e-2, 1e-3) if roundoff < 1e-5 else (0.1, 0.03)
        gradient = [] if self.malformed("rev") else self.gradient
        scale = max([abs(self.base), *(float(np.abs(g).max(initial=0)) for g in gradient)])
        return Tolerance(roundoff ** (1 / 3) if eps is None else eps, relative if rtol is None else rtol,
                         absolute * (scale if np.isfinite(scale) else 1.0) + 1e-12 if atol is None else atol)

    def refuse_infinite(self, name: str) -> None:
        """Raise `CheckError` if phi is not finite, since its differences are not."""
        if np.isfinite(self.base):
            return
        nodes = [n for n in self._held.nodes if not isinstance(n.type, TupleType)]
        values = interpreters.evaluate(self._held.replace(outputs=tuple(nodes), out_names=()), self.arrays)
        node = next((n for n, v in zip(nodes, values, strict=True) if not np.isfinite(v).all()), None)
        raise CheckError(f"check_grads({name}): the value at this point is not finite; first at "
                         f"{describe(node, self._held) if node else 'a result'}", node)

    def _along(self, mode: str, leaf: int, direction: np.ndarray, step: float = 0.0) -> float:
        if mode == "rev":
            return float(np.sum(direction * self.gradient[leaf]))
        if mode == "fwd":
            return self._phi(interpreters.evaluate(self._pushed(leaf), [*self.arrays, direction]))
        position, sides = self._positions[leaf], []
        for sign in (1, -1):
            moved = self.arrays[position] + (sign * step * direction).astype(self.arrays[position].dtype)
            sides.append(self._phi(interpreters.evaluate(
                self._held, [*self.arrays[:position], moved, *self.arrays[position + 1:]])))
        return (sides[0] - sides[1]) / (2 * step)

    def _pushed(self, leaf: int) -> Graph:
        """Return the graph of the outputs' tangents, with the tangent of one leaf as a further input."""
        if leaf not in self._forward:
            w = self.wrt[leaf]
            t = placeholder(w.types[0])
            self._forward[leaf] = Graph((*self.graph.inputs, t), self._tangents({w: t}))
        return self._forward[leaf]

    def _tangents(self, moving: dict[Node, Node]) -> tuple[Node, ...]:
        out = interpreters.forward(self.graph.outputs, moving)
        return tuple(zeros_like(n) if t is None else t for t, n in zip(out, self.graph.outputs, strict=True))

    @cached_property
    def pushed(self) -> Graph:
        """The graph of the outputs' tangents along one random direction of all leaves."""
        moving = {w: constant(np.asarray(self._rng.uniform(0.5, 1.5, _shape(w)), w.dtype)) for w in self.wrt}
        return self.graph.replace(outputs=self._tangents(moving), name=f"jvp({self.graph.name})")

    def malformed(self, mode: str) -> str:
        """Return the reason why the derivative has no graph of the right types, or ""."""
        try:
            derivatives = self.reverse.outputs if mode == "rev" else self.pushed.outputs
        except (ShapeError, DtypeError) as error:
            return f"the {_MODES[mode]} rules do not fit together: {error}"
        values = self.wrt if mode == "rev" else self.graph.outputs
        for h, w in zip(derivatives, values, strict=True):
            if h.type != w.type:
                return f"the {'cotangent' if mode == 'rev' else 'tangent'} of a value of type {w.type} is {h.type}"
        return ""

    def _differs(self, mode: str, leaf: int, direction: np.ndarray, tol: Tolerance) -> tuple[float, float] | None:
        """Return the slope and the finite difference if they disagree at every step, or None."""
        slope = self._along(mode, leaf, direction)
        reach = max(1.0, float(np.abs(self.arrays[self._positions[leaf]][direction != 0]).max(initial=0)))
        self.comparisons += 1
        differences = []
        for shrink in _STEPS:
            difference = self._along("difference", leaf, direction, tol.eps * reach * shrink)
            differences.append(difference)
            size = max(abs(slope), abs(difference))
            if abs(slope - difference) <= tol.atol + tol.rtol * size:
                self.largest = max(self.largest, abs(slope - difference) / (size + tol.atol))
                return None
        return slope, differences[0]

    def first(self, mode: str, tol: Tolerance) -> Disagreement | None:
        """Return the first element along which `mode` and the finite differences disagree."""
        for leaf, w in enumerate(self.wrt):
            count = math.prod(_shape(w))
            chosen = range(count) if count <= _ELEMENTS else np.sort(
                self._rng.choice(count, _ELEMENTS, replace=False))
            for i in chosen:
                pair = self._differs(mode, leaf, _unit(w, [i]), tol)
                if pair:
                    return Disagreement(leaf, _position(int(i), _shape(w)), *pair)
            for _ in range(2 * (count > _ELEMENTS)):
                direction = self._rng.choice([-1.0, 1.0], _shape(w)).astype(w.dtype)
                if self._differs(mode, leaf, direction, tol):
                    return self._bisect(mode, leaf, direction, tol)
        return None

    def _bisect(self, mode: str, leaf: int, direction: np.ndarray, tol: Tolerance) -> Disagreement:
        """Return the disagreement of one element, found by bisection of a direction that disagrees."""
        inside = np.arange(direction.size)
        while len(inside) > 1:
            halves = np.array_split(inside, 2)
            gaps = []
            for half in halves:
                part = _unit(self.wrt[leaf], half) * direction
                pair = self._differs(mode, leaf, part, tol)
                gaps.append(abs(pair[0] - pair[1]) if pair else 0.0)
            if not any(gaps):
                break
            inside = halves[int(np.argmax(np.nan_to_num(gaps, nan=np.inf)))]
        one = _unit(self.wrt[leaf], inside[:1])
        slope, difference = self._along(mode, leaf, one), self._along("difference", leaf, one, tol.eps)
        return Disagreement(leaf, _position(int(inside[0]), direction.shape), slope, difference)


def _shape(node: Node) -> tuple[int, ...]:
    """Return the shape of a node of fixed sizes."""
    return tuple(n for n in node.shape if isinstance(n, int))


def _position(i: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of element `i` in row-major order."""
    return tuple(map(int, np.unravel_index(i, shape))) if shape else ()


def _unit(node: Node, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return an array of the node's type that is 1 at `indices`, in row-major order, and 0 elsewhere."""
    out = np.zeros(_shape(node), node.dtype)
    out.reshape(-1)[indices] = 1
    return out


def _error(f: Callable[..., PyTree], slopes: Slopes, before: str, mode: str, wrong: Disagreement | None,
           reason: str) -> CheckError:
    subject = "the derivative of " + {
        "": "the result", "rev": "the gradient", "fwd": "the directional derivative"}[before]
    if not slopes.scalar:
        subject += " (its elements summed with random weights)"
    if wrong is None:
        message = f"{subject} is malformed: {reason}"
    else:
        argument = slopes.graph.names[slopes.graph.inputs.index(slopes.wrt[wrong.leaf])]
        message = (f"{subject} by {element(argument, wrong.position)} is {number(wrong.slope)} in {_MODES[mode]} and "
                   f"{number(wrong.difference)} by finite differences")
    node, cause = first_wrong_rule(slopes, mode)
    if node is None:
        blame = ["  each node's own rule agrees with its finite differences: the function may have a kink or a jump "
                 "at this point, or vary faster than the step eps"]
    else:
        blame = [f"  first node that disagrees: {describe(node, slopes.graph)}", f"    {cause}"]
    return CheckError("\n".join([f"check_grads({function_name(f)}): {message}", *blame]), node)


def first_wrong_rule(slopes: Slopes, mode: str) -> tuple[Node | None, str]:
    """Return the first node whose rule for `mode` differs from its own finite difference, and both numbers.

    Each node is checked alone, at its values in the graph.
    """
    graph = slopes.graph
    nodes = [n for n in interpreters.dependent(graph.outputs, slopes.wrt) if n.inputs and n.type.floating
             and not any(isinstance(i.type, TupleType) for i in n.inputs)
             and not (n.prim is stop_gradient and not {"vjp", "jvp"} & set(n.rules))]
    needed = list(dict.fromkeys(i for n in nodes for i in n.inputs))
    values = dict(zip(needed, interpreters.evaluate(graph.replace(outputs=tuple(needed), out_names=()), slopes.arrays),
                      strict=True))
    for node in nodes:
        alone = _alone(node)
        wrt = [i for i, like in zip(alone.inputs, node.inputs, strict=True) if like.type.floating]
        if not wrt:
            continue
        own = Slopes(alone, [np.asarray(values[i]) for i in node.inputs], wrt, 0, hold=False)
        rule = "vjp" if mode == "rev" else "jvp"
        if reason := own.malformed(mode):
            return node, f"its {rule} rule is malformed: {reason}"
        wrong = own.first(mode, own.tolerance(None, None, None))
        if wrong is not None:
            k = alone.inputs.index(wrt[wrong.leaf])
            return node, (f"its {rule} rule says {number(wrong.slope)} by "
                          f"{at_element(f'operand {k}', wrong.position)}, finite differences of this node alone say "
                          f"{number(wrong.difference)}")
    return None, ""


def _alone(node: Node) -> Graph:
    """Return the graph of one node on fresh inputs, with its floating results as outputs."""
    inputs = [placeholder(i.types[0]) for i in node.inputs]  # an input per operand, each with its own cotangent
    out = node.prim(*inputs, **node.params)
    outs = parts(out) if isinstance(out.type, TupleType) else [out]
    return Graph(tuple(inputs), tuple(o for o in outs if o.type.floating), name=node.prim.name)
