"""A cube with rules that can be broken one by one, and the traced function that calls it."""

import inspect

from minigrad.graph import PRIMITIVES
from minigrad.numpy import Array
from minigrad.primitive import Primitive
from minigrad.traced_array import as_array

NAME = "broken"

RIGHT = {
    "type": lambda t: t,
    "eval": lambda xp, x: x * x * x,
    "vjp": lambda g, out, x: [g * (3.0 * PRIMITIVES["square"](x))],
    "jvp": lambda ts, out, x: ts[0] * (3.0 * PRIMITIVES["square"](x)),
    "batch": lambda size, mapped, x: PRIMITIVES[NAME](x),
}


def declare(**wrong):
    """Declare the cube, with some rules replaced by wrong ones."""
    return Primitive(NAME, **(RIGHT | wrong))


def cube(x):
    """Return the cube of `x`, through the primitive where it is traced."""
    return Array(PRIMITIVES[NAME](as_array(x)._node)) if isinstance(x, Array) else x * x * x


LINE = f"broken.py:{inspect.getsourcelines(cube)[1] + 2}"  # what the graph says of the node
