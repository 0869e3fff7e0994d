"""minigrad: write the loss of one example in NumPy; batching is a rewrite of its graph."""

import sys as _sys
from collections.abc import Callable as _Callable
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from .collector import uncollected as _uncollected
from .locks import importing as _importing

with _uncollected():
    from . import numpy
    from . import size_queries as _size_queries
    from .errors import (
        BatchError,
        CheckError,
        DtypeError,
        GradError,
        GraphError,
        MinigradError,
        ShapeError,
        TraceError,
        Unsupported,
    )
    from .graph import CALLS as _CALLS
    from .graph import FORMS as _FORMS
    from .graph import PRINTERS as _PRINTERS
    from .graph import TEXTS as _TEXTS
    from .graph import ArrayType, Graph, Node
    from .graph import Table as _Table
    from .numpy import where
    from .ops import effects as _effects
    from .symbolic import Dim
    from .traced_array import Array
    from .transforms import effects as _keepers
    from .transforms import host_random as _host_random
    from .transforms import static_arguments as _static_arguments
    from .transforms.grad import grad, value_and_grad
    from .transforms.mean import mean_loss, unroll
    from .transforms.vmap import vmap

del globals()["primitive"]  # the module, which its import enters here: the name is that of a function

__version__ = "0.1.0"

# Names that the first gradient of a process does not need: imported on first use, which saves half of the time.
_LATER = {
    "all_reduce": ".distributed", "Audit": ".auditing", "audit": ".auditing", "autobatch": ".passes.autobatch",
    "Axis": ".ragged.axes", "axis": ".ragged.axes", "Batch": ".ragged.batch", "batch": ".ragged.batch",
    "batch_loss": ".transforms.batch_loss", "bool_": ".transforms.array_types", "breakpoint": ".transforms.printing",
    "callback": ".transforms.custom", "check_batching": ".testing", "check_grads": ".testing",
    "check_primitive": ".testing", "checkpoint": ".transforms.checkpoint", "compare": ".report",
    "compile": ".compiler", "cond": ".transforms.control", "count": ".ragged.axes", "custom_jvp": ".transforms.custom",
    "custom_vjp": ".transforms.custom", "DataLoader": ".ragged.loader", "debug_nans": ".debugging",
    "dim": ".transforms.array_types", "distribute": ".distributed", "example": ".ragged.schema",
    "explore": ".explorer", "f16": ".transforms.array_types", "f32": ".transforms.array_types",
    "f64": ".transforms.array_types", "fori_loop": ".transforms.control", "from_networkx": ".ragged.convert",
    "from_pyg": ".ragged.convert", "full_tracebacks": ".debugging", "gather": ".segment",
    "get_num_threads": ".backends.native.runtime.threads", "hessian": ".transforms.jacobian",
    "hvp": ".transforms.jacobian", "i16": ".transforms.array_types", "i32": ".transforms.array_types",
    "i64": ".transforms.array_types", "i8": ".transforms.array_types", "index": ".ragged.axes",
    "jacobian": ".transforms.jacobian", "jvp": ".transforms.jacobian_products", "label": ".labels",
    "microbatch": ".transforms.microbatch", "numpy_code": ".plain", "open_dataset": ".ragged.dataset",
    "optim": ".optim", "per_example": ".per_example", "per_example_grad": ".per_example",
    "primitive": ".transforms.custom", "print": ".transforms.printing", "random": ".random",
    "register_dataclass": ".transforms.pytrees", "renumber": ".numpy.selections", "Report": ".report",
    "save_dataset": ".ragged.dataset", "scan": ".transforms.control", "scope": ".labels", "segment_max": ".segment",
    "segment_mean": ".segment", "segment_min": ".segment", "segment_softmax": ".segment", "segment_sum": ".segment",
    "select": ".numpy.selections", "set_num_threads": ".backends.native.runtime.threads", "shared": ".ragged.axes",
    "Sparse": ".sparse", "special": ".numpy", "stop_gradient": ".transforms.checkpoint",
    "switch": ".transforms.control", "to_networkx": ".ragged.convert", "to_pyg": ".ragged.convert",
    "trace": ".transforms.symbolic_trace", "tree_parents": ".ragged.child_lists", "tree_scan": ".transforms.trees",
    "u16": ".transforms.array_types", "u32": ".transforms.array_types", "u64": ".transforms.array_types",
    "u8": ".transforms.array_types", "vjp": ".transforms.jacobian_products", "while_loop": ".transforms.control"}

if _TYPE_CHECKING:
    from . import optim, per_example, random
    from .auditing import Audit, audit
    from .backends.native.runtime.threads import get_num_threads, set_num_threads
    from .compiler import compile
    from .debugging import debug_nans, full_tracebacks
    from .distributed import all_reduce, distribute
    from .explorer import explore
    from .labels import label, scope
    from .numpy import special
    from .numpy.selections import renumber, select
    from .passes.autobatch import autobatch
    from .per_example import per_example_grad
    from .plain import numpy_code
    from .ragged.axes import Axis, axis, count, index, shared
    from .ragged.batch import Batch, batch
    from .ragged.child_lists import tree_parents
    from .ragged.convert import from_networkx, from_pyg, to_networkx, to_pyg
    from .ragged.dataset import open_dataset, save_dataset
    from .ragged.loader import DataLoader
    from .ragged.schema import example
    from .report import Report, compare
    from .segment import gather, segment_max, segment_mean, segment_min, segment_softmax, segment_sum
    from .sparse import Sparse
    from .testing import check_batching, check_grads, check_primitive
    from .transforms.array_types import bool_, dim, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
    from .transforms.batch_loss import batch_loss
    from .transforms.checkpoint import checkpoint, stop_gradient
    from .transforms.control import cond, fori_loop, scan, switch, while_loop
    from .transforms.custom import callback, custom_jvp, custom_vjp, primitive
    from .transforms.jacobian import hessian, hvp, jacobian
    from .transforms.jacobian_products import jvp, vjp
    from .transforms.microbatch import microbatch
    from .transforms.printing import breakpoint, print
    from .transforms.pytrees import register_dataclass
    from .transforms.symbolic_trace import trace
    from .transforms.trees import tree_scan

__all__ = [
    "Array", "ArrayType", "Audit", "Axis", "Batch", "BatchError", "CheckError", "DataLoader", "Dim", "DtypeError",
    "GradError", "Graph", "GraphError", "MinigradError", "Node", "Report", "ShapeError", "Sparse", "TraceError",
    "Unsupported", "all_reduce", "audit", "autobatch", "axis", "batch", "batch_loss", "bool_", "breakpoint", "callback",
    "check_batching", "check_grads", "check_primitive", "checkpoint", "compare", "compile", "cond", "count",
    "custom_jvp", "custom_vjp", "debug_nans", "dim", "distribute", "example", "explore", "f16", "f32", "f64",
    "fori_loop", "from_networkx", "from_pyg", "full_tracebacks", "gather", "get_num_threads", "grad", "hessian", "hvp",
    "i8", "i16", "i32", "i64", "index", "jacobian", "jvp", "label", "mean_loss", "microbatch", "numpy", "numpy_code",
    "open_dataset", "optim", "per_example", "per_example_grad", "primitive", "print", "random", "register_dataclass",
    "renumber", "save_dataset", "scan", "scope", "segment_max", "segment_mean", "segment_min", "segment_softmax",
    "segment_sum", "select", "set_num_threads", "shared", "special", "stop_gradient", "switch", "to_networkx", "to_pyg",
    "trace", "tree_parents", "tree_scan", "u8", "u16", "u32", "u64", "unroll", "value_and_grad", "vjp", "vmap",
    "where", "while_loop",
]


def _later(module: str, name: str) -> _Callable[..., _Any]:
    """Return a function that imports another one when it is called."""
    def call(*args: object) -> _Any:
        return getattr(_module(module), name)(*args)

    return call


def _module(name: str) -> _ModuleType:
    with _importing, _uncollected():
        return _import_module(name, __name__)


def _complete() -> None:
    """Import all modules that plug into the core."""
    _module(".registry")


_Table.complete = staticmethod(_complete)
_CALLS |= {"explore": _later(".explorer", "explore_graph"), "__reduce__": _later(".codec", "to_pickle")}
_FORMS |= {"from_json": _later(".codec", "from_json"), "optimize": _later(".passes", "optimize")}
_TEXTS["to_json"] = _later(".codec", "to_json")
_PRINTERS["numpy"] = _later(".backends", "numpy_program_source")


# Names of JAX and PyTorch, and the names here.
_ELSEWHERE = {"jit": "mg.compile", "jacrev": "mg.jacobian", "jacfwd": "mg.jacobian", "make_jaxpr": "mg.trace",
              "eval_shape": "mg.trace", "pmap": "mg.distribute", "remat": "mg.checkpoint", "lax": "mg.scan, mg.cond",
              "pure_callback": "mg.callback", "tree": "optree", "tree_map": "optree.tree_map", "tree_util": "optree",
              "nn": "mg.special", "backward": "mg.value_and_grad", "no_grad": "mg.stop_gradient",
              "detach": "mg.stop_gradient"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        way_out = f": write {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        text = f"module {__name__!r} has no attribute {name!r}{way_out}"
        raise AttributeError(text, name=name, obj=_sys.modules[__name__])  # Python suggests names for a misspelt one
    module = _module(_LATER[name])
    value = globals()[name] = module if _LATER[name] == f".{name}" else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
