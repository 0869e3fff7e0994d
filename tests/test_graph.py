"""Graphs as values: frozen nodes, constants and dtypes."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import ArrayType, dtype_of
from minigrad.ops.control import placeholder

W = np.array([1.0, 2.0, 0.5])


def test_nodes_are_frozen():
    graph = mg.trace(np.tanh)(W)
    with pytest.raises(AttributeError, match="frozen"):
        graph.outputs[0].loc = None
    with pytest.raises(AttributeError):
        graph.name = "other"


def test_a_constant_that_changes_later_does_not_change_the_graph():
    table = np.ones(3)
    graph, compiled = mg.trace(lambda x: x * table)(W), mg.compile(lambda x: x * table)
    np.testing.assert_array_equal(compiled(W), W)
    table[:] = 5
    np.testing.assert_array_equal(interpreters.evaluate(graph, [W])[0], W)
    np.testing.assert_array_equal(compiled(W), W)


def test_a_large_constant_is_kept_once():
    big = np.ones((1000, 20))
    assert mg.trace(lambda w: sum(np.sum(big @ w) for _ in range(5)))(np.ones(20)).count("const") == 1


def test_where_on_plain_arrays_is_numpys():
    out = mg.where(W > 1, W, 0)
    assert type(out) is np.ndarray
    np.testing.assert_array_equal(out, [0, 2, 0])


def test_a_graph_with_the_same_results_keeps_its_nodes():
    graph = mg.trace(lambda x: (np.tanh(x), np.sum(x)))(W)
    assert {prim.name for prim in graph.prims} == {"input", "tanh", "sum"}
    assert graph.replace(name="other").nodes is graph.nodes
    first = graph.replace(outputs=graph.outputs[:1], out_names=("out",))
    assert [n.prim.name for n in first.nodes] == ["input", "tanh"]
    assert {prim.name for prim in first.prims} == {"input", "tanh"}
    assert (graph.count(), first.count(), first.count("tanh")) == (2, 1, 1)


@pytest.mark.parametrize("name", ["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"])
def test_a_dtype_is_numpys_own_instance_of_it(name):
    for given in (name, np.dtype(name), np.dtype(name).newbyteorder(">"), np.dtype(name).newbyteorder("=")):
        assert dtype_of(given) is np.dtype(name)
    assert mg.trace(lambda x: np.where(x > 0, x, x))(np.ones(3, name)).outputs[0].dtype is np.dtype(name)


def test_substitute_accepts_values_of_another_type():
    graph = mg.trace(lambda x: np.sum(np.exp(x), axis=0))(np.ones((2, 3)))
    (x,) = graph.inputs
    for t in (ArrayType((4, 5), np.dtype("f4")), x.type):
        (out,) = interpreters.substitute(graph.outputs, {x: placeholder(t)})
        assert [n.type for n in interpreters.reachable([out])] == [t, t, ArrayType(t.shape[1:], t.dtype)]


# Programs that need modules which the import of minigrad leaves out, and their values.
FRESH = {
    "print('minigrad.registry' in sys.modules)": "False",
    "mg.grad(lambda x: np.sum(x @ x))(np.ones(2)); print('minigrad.registry' in sys.modules)": "False",
    "mg.compile(mg.grad(mg.mean_loss(lambda w, x: np.tanh(x @ w), in_axes=(None, 0))))(np.ones(2), np.ones((3, 2)))\n"
    "print('minigrad.registry' in sys.modules)": "False",
    "print(mg.compile(lambda x: np.sum(np.cumsum(x)))(np.ones(3)))": "6.0",
    "print(mg.compile(lambda x: x + 1.0).memory(np.ones(3)) >= 24)": "True",
    "mg.compile(np.sin, backend='numpy')(1.0); print('np.sin(' in mg.trace(np.sin)(mg.f64[2]).source())": "True",
    "print(*mg.grad(lambda x: np.linalg.norm(x))(np.array([0.0, 4.0])))": "0.0 1.0",
    "print(*mg.grad(lambda x: np.var(x))(np.array([1.0, 3.0])))": "-1.0 1.0",
    "print(*mg.grad(lambda x: np.convolve(x, [2.0, 1.0]).sum())(np.ones(2)))": "3.0 3.0",
    "print(*mg.grad(lambda x: x.at[0].set(0.0).sum())(np.ones(2)))": "0.0 1.0",
    "import minigrad.numpy as mnp; print(mnp.linalg.det.__name__, mnp.pi, mnp.float32 is np.float32)":
        f"det {np.pi} True",
    "from minigrad.numpy import fft, linalg, special; print(*fft.rfft_parts(np.ones(2))[0], special is mg.special)":
        "2.0 0.0 True",
    "from minigrad.graph import PRIMITIVES; print('tree_scan' in PRIMITIVES)": "True",
    "from minigrad.graph import PRIMITIVES; print('tree_scan' in list(PRIMITIVES))": "True",
    "from minigrad.graph import PRIMITIVES; print(PRIMITIVES['tree_scan'])": "<primitive tree_scan>",
    "print(mg.trace(lambda x: x * 2.0)(mg.f64[2]).vmap()(np.ones((1, 2))))": "[[2. 2.]]",
    "print(mg.vmap(lambda x: np.nonzero(x)[0].sum())(np.array([[0, 1, 1]])))": "[3]",
    "from minigrad.ragged.batch import batch\n"
    "print(*mg.vmap(np.sum)(batch([np.ones(2), np.ones(3)], mg.f64[mg.axis('n')])))": "2.0 3.0",
    "mg.primitive('tree_scan', lambda xp, x: x)": "a primitive called 'tree_scan' exists already",
    "def f(x):\n for _ in range(200):\n  x = np.sin(x) * 2.0\n return x\n"
    "mg.grad(f)(1.0); print('minigrad.ops.unrolled_loops' in sys.modules)": "True",
}


@pytest.mark.parametrize("program", FRESH)
def test_a_fresh_process_imports_modules_on_first_use(program):
    text = f"import sys\nimport numpy as np\nimport minigrad as mg\n{program}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.stdout or done.stderr.splitlines()[-1].partition(": ")[2]).strip() == FRESH[program], done.stderr


def test_a_pickled_batch_is_a_batch_in_a_fresh_process():
    data = pickle.dumps(mg.batch([np.ones(2), np.ones(3)], mg.f64[mg.axis("n")]))
    text = ("import pickle, sys\nimport numpy as np\nbatch = pickle.loads(sys.stdin.buffer.read())\n"
            "import minigrad as mg\nprint(mg.mean_loss(np.sum)(batch))")
    done = subprocess.run([sys.executable, "-c", text], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "2.5"
