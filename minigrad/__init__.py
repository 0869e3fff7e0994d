"""minigrad: write the loss of one example in NumPy; batching is a rewrite of its graph."""

from . import optim, per_example, random
from .backends.native.threads import get_num_threads, set_num_threads
from .compare import Report, check_batching, check_grads, check_primitive, compare
from .compiler import compile
from .dims import Dim
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
from .graph import ArrayType, Graph, Node
from .numpy import Array, special, where
from .ragged.axes import Axis, axis, count, index, shared
from .ragged.batch import Batch, batch
from .ragged.convert import from_networkx, from_pyg, to_networkx, to_pyg
from .ragged.dataset import open_dataset, save_dataset
from .ragged.loader import DataLoader
from .ragged.schema import example
from .segment import gather, segment_max, segment_mean, segment_min, segment_softmax, segment_sum
from .sparse import Sparse
from .transforms.control import cond, fori_loop, scan, switch, while_loop
from .transforms.custom import callback, custom_jvp, custom_vjp, primitive
from .transforms.grad import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .transforms.mark import checkpoint, stop_gradient
from .transforms.microbatch import microbatch
from .transforms.pytrees import register_dataclass
from .transforms.spec import bool_, dim, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from .transforms.trace import trace
from .transforms.vmap import mean_loss, per_example_grad, unroll, vmap
from .walk import debug_nans

__version__ = "0.1.0"
