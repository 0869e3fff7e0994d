"""Products by cuBLAS: numbers from its headers, algorithms, biases, and products at the same time."""

import ctypes
import gc
import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.cupy import blas, launch_plan
from minigrad.backends.cupy.blas import Product, Spec
from minigrad.backends.cupy.device import BESIDE, Device
from minigrad.backends.cupy.gemm import ConcurrentProducts, Multiply
from minigrad.errors import MinigradError
from minigrad.primitive import on_host

from . import cublas_on_numpy, programs
from .recorded import Node, Recorded, Recording, races
from .test_program import same, step

# -- the headers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def header():
    """Return the text of cuBLAS's headers, of the wheel that pip installs or of a CUDA toolkit."""
    spec = importlib.util.find_spec("nvidia")
    folders = [f for p in (spec.submodule_search_locations or () if spec else ()) for f in Path(p).glob("*/include")]
    folders += [Path(root, "include") for root in (os.environ.get("CUDA_PATH"), "/usr/local/cuda") if root]
    for folder in folders:
        if (folder / "cublasLt.h").exists():
            return (folder / "cublasLt.h").read_text() + (folder / "cublas_api.h").read_text()
    pytest.skip("cublasLt.h is not installed: pip install nvidia-cublas")


def test_cublas_constants_match_the_headers(header):
    values = {name: eval(text) for name, text in re.findall(r"^\s*(CUBLAS\w+) = (\d+)\b", header, re.MULTILINE)}
    own = {"CUBLASLT_MATMUL_DESC_TRANSA": blas._TRANSPOSED_A, "CUBLASLT_MATMUL_DESC_TRANSB": blas._TRANSPOSED_B,
           "CUBLASLT_MATMUL_DESC_EPILOGUE": blas._EPILOGUE, "CUBLASLT_MATMUL_DESC_BIAS_POINTER": blas._BIAS,
           "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": blas._BATCH,
           "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": blas._APART,
           "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": blas._WORKSPACE,
           "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": blas._ALIGNMENT_A,
           "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES": blas._ALIGNMENT_B,
           "CUBLASLT_EPILOGUE_DEFAULT": blas.EPILOGUES[""], "CUBLASLT_EPILOGUE_BIAS": blas.EPILOGUES["bias"],
           "CUBLAS_COMPUTE_32F": blas._TYPES["float32"][1], "CUBLAS_COMPUTE_64F": blas._TYPES["float64"][1],
           "CUBLAS_COMPUTE_32F_FAST_TF32": blas._TF32, "CUBLAS_OP_N": int(False), "CUBLAS_OP_T": int(True)}
    assert {name: values[name] for name in own} == own
    assert blas._TYPES["float16"][1] == blas._TYPES["float32"][1]


def test_attribute_types_match_the_headers(header):
    """A comment before each attribute says its type, which the stand-in of cublasLt asks for."""
    types = {"int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "int64_t": ctypes.c_int64,
             "uint64_t": ctypes.c_uint64, "const void *": ctypes.c_void_p}
    for kind, prefix in (("MatmulDesc", "MATMUL_DESC"), ("MatrixLayout", "MATRIX_LAYOUT"),
                         ("MatmulPreference", "MATMUL_PREF")):
        for number, have in cublas_on_numpy.ATTRIBUTES[kind].items():
            comment, = re.findall(rf"/\*\*((?:(?!\*/).)*)\*/\s*CUBLASLT_{prefix}_\w+ = {number},", header, re.DOTALL)
            assert types[re.findall(r"\b(u?int(?:32|64)_t|const void \*)(?=, default)", comment)[0]] is have


def test_structures_and_functions_match_the_headers(header):
    algorithm, = re.findall(r"typedef struct \{\s*uint64_t data\[(\d+)\];\s*\} cublasLtMatmulAlgo_t;", header)
    assert ctypes.sizeof(blas.Algorithm) == 8 * int(algorithm)
    body = re.findall(r"typedef struct \{((?:(?!typedef).)*)\} cublasLtMatmulHeuristicResult_t;", header, re.DOTALL)[0]
    fields = re.findall(r"^\s*(\w+) (\w+)(?:\[(\d+)\])?;", body, re.MULTILINE)
    assert fields == [("cublasLtMatmulAlgo_t", "algo", ""), ("size_t", "workspaceSize", ""),
                      ("cublasStatus_t", "state", ""), ("float", "wavesCount", ""), ("int", "reserved", "4")]
    types = [blas.Algorithm, ctypes.c_size_t, ctypes.c_int, ctypes.c_float, ctypes.c_int * 4]
    assert [t for _, t in blas.Proposal._fields_] == types
    names = ["Create", "Matmul", "MatmulAlgoGetHeuristic", *(
        f"{kind}{verb}" for kind in cublas_on_numpy.ATTRIBUTES for verb in ("Create", "Destroy", "SetAttribute"))]
    for name in names:
        assert re.search(rf"\bcublasLt{name}\(", header), name


# -- one product -------------------------------------------------------------------------------------------


def product(device, x, y, turned=(False, False), bias=None, lt=True, shift=0, **more):
    """Return a product on the device, its addresses, and the array that it writes."""
    (batch, m, k), n = x.shape, y.shape[2]
    arrays = []
    for v, t in ((x, turned[0]), (y, turned[1]), *([] if bias is None else [(bias[None, None], False)])):
        flat = np.concatenate([np.zeros(shift, v.dtype), (v.swapaxes(1, 2) if t else v).ravel()])
        arrays.append(device.asarray(flat, v.dtype))
    spec = Spec(x.dtype, "highest", (batch, m, n, k), (turned[0], m if turned[0] else k, m * k),
                (turned[1], k if turned[1] else n, k * n), epilogue="" if bias is None else "bias", **more)
    out, room = device.array((batch, m, n), x.dtype, device.allocate(batch * m * n * 8)), device.allocate(blas.ROOM)
    at = [a.data.ptr + shift * x.dtype.itemsize for a in arrays]
    return Product(device, spec, lt), at, out, room.ptr, (arrays, room)


@pytest.mark.parametrize("lt", [True, False])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products(device, turned, lt):
    rng = np.random.default_rng(0)
    for dtype, shift in (("f4", 0), ("f8", 1), ("f2", 3)):
        for batch, m, n, k in ((1, 5, 7, 3), (3, 5, 7, 3), (1, 1, 7, 3), (1, 5, 1, 3), (2, 4, 4, 1)):
            x, y = rng.normal(size=(batch, m, k)).astype(dtype), rng.normal(size=(batch, k, n)).astype(dtype)
            made, at, out, room, _kept = product(device, x, y, turned, lt=lt, shift=shift)
            made(out.data.ptr, room, *at)
            tolerance = 1e-2 if dtype == "f2" else 1e-5
            np.testing.assert_allclose(on_host(out), x.astype("f8") @ y.astype("f8"), tolerance, tolerance)


def test_a_product_adds_a_bias_to_each_row(on_stand_in):
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        x, y, bias = (rng.normal(size=s).astype("f4") for s in ((batch, 5, 3), (batch, 3, 7), 7))
        made, at, out, room, _kept = product(on_stand_in, x, y, (True, False), bias)
        made(out.data.ptr, room, *at)
        np.testing.assert_allclose(on_host(out), x @ y + bias, rtol=1e-5, atol=1e-6)


def test_a_bias_may_find_no_algorithm(on_stand_in):
    x, y = np.ones((1, 2, 3)), np.ones((1, 3, 4))
    assert product(on_stand_in, x, y, bias=np.ones(4))[0].algorithms(256, 256, 256) == []
    assert product(on_stand_in, x, y)[0].algorithms(256, 256)[-1] is None
    assert product(on_stand_in, x, y, lt=False)[0].algorithms(256, 256) == [None]


def test_operands_of_each_alignment_have_algorithms_of_their_own(on_stand_in):
    x, y = np.ones((1, 2, 3), "f4"), np.ones((1, 3, 4), "f4")
    made, (left, right), out, room, _kept = product(on_stand_in, x, y)
    assert {tuple(a.data[2:4]) for a in made.algorithms(512, 1024) if a is not None} == {(256, 256)}
    assert {tuple(a.data[2:4]) for a in made.algorithms(516, 1040) if a is not None} == {(16, 4)}
    with pytest.raises(MinigradError, match=r"cublasLtMatmul failed \(7\)"):
        made.run(made.algorithms(512, 1024)[0], out.data.ptr, room, left, right + 4)


def test_the_fastest_algorithm_is_kept_and_timing_writes_nothing(on_stand_in):
    x, y = np.ones((2, 2, 3), "f4"), np.ones((2, 3, 4), "f4")
    made, at, out, room, _kept = product(on_stand_in, x, y)
    out.fill(7)
    calls = []
    on_stand_in.choose = lambda n: calls.append(n) or 2
    made.tune(room, *at)
    made.tune(room, *at)
    assert calls == [on_stand_in.lt.algorithms + 1], "cublasGemmEx is timed as well, and all of them once"
    assert np.all(on_host(out) == 7)
    on_stand_in.lt.used.clear()
    made(out.data.ptr, room, *at)
    assert on_stand_in.lt.used == [2]
    assert np.all(on_host(out) == 3)
    made._timed.clear()
    on_stand_in.limit = 0
    made.tune(room, *at)
    assert calls == [on_stand_in.lt.algorithms + 1], "nothing is timed where memory does not suffice"


def test_the_fastest_call_is_found_by_graphs(on_stand_in, monkeypatch):
    """The real timing, with a clock that the calls set."""
    clock = [0.0]
    monkeypatch.setattr(on_stand_in._cupy.cuda, "get_elapsed_time", lambda begin, end: clock[0])

    def call(seconds):
        def run():
            clock[0] = seconds
        return lambda: on_stand_in.enqueue(on_stand_in.stream(), "work", run)

    def refused():
        raise MinigradError("cublasLtMatmul failed (15)")

    def fastest(*calls):
        return Device.fastest(on_stand_in, [c if callable(c) else call(c) for c in calls], 3)

    assert fastest(3.0, 2.0, 1.0, 2.0) == 2
    assert fastest(1.0, 0.99, 2.0) == 0, "the first one stays where another one is hardly faster"
    assert fastest(refused, 2.0, 1.0) == 2
    assert fastest(refused) == 0
    assert len(on_stand_in.graphs[0].nodes) == 3


# -- programs ----------------------------------------------------------------------------------------------


def attention(p, x):
    q, k, v = (x @ p[n] + p[f"{n}'s bias"] for n in "qkv")
    s = np.exp(q @ k.T)
    return (s / s.sum(1, keepdims=True)) @ v @ p["o"]


def attended(dtype="f4", batch=3, rows=5, width=8):
    rng = np.random.default_rng(0)
    p = {n: rng.normal(size=(width, width)).astype(dtype) / 4 for n in "qkvo"}
    p |= {f"{n}'s bias": rng.normal(size=width).astype(dtype) for n in "qkv"}
    return p, rng.normal(size=(batch, rows, width)).astype(dtype)


def stages(compiled):
    """Return the products of a program that run at the same time, together."""
    return [getattr(op, "products", [op]) for op in compiled.entries[0].program.plan.ops
            if isinstance(op, (Multiply, ConcurrentProducts))]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_projections_run_at_the_same_time_and_add_their_biases(on_device, dtype):
    f = mg.value_and_grad(lambda p, x: np.sum(np.sin(mg.vmap(attention, (None, 0))(p, x))))
    ours, want = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for batch in (3, 3, 3, 4):
        same(ours(*attended(dtype, batch)), want(*attended(dtype, batch)), 1e-9 if dtype == "f8" else 2e-4)
    first, *_ = stages(ours)
    assert [p.launch is not None for p in first] == [dtype == "f4"] * 3


def test_a_captured_product_adds_its_bias_without_a_launch(on_stand_in):
    ours = mg.compile(mg.vmap(attention, (None, 0)), backend="cupy")
    for _ in range(2):
        ours(*attended())
    graph = on_stand_in.graphs[-1]
    assert sum(node.name == "gemm" for node in graph.nodes) == 6
    assert len(graph.nodes) == 6 + 4, "pointers, copies of arguments, softmax, result"
    assert graph.forks == 3


@pytest.mark.parametrize("without", [*launch_plan.PARTS, ",".join(launch_plan.PARTS)])
def test_each_part_can_be_left_out(on_device, monkeypatch, without):
    monkeypatch.setenv("MINIGRAD_GPU_WITHOUT", without)
    f = mg.vmap(attention, (None, 0))
    ours, want = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for _ in range(3):
        same(ours(*attended()), want(*attended()), 1e-4)
    found = stages(ours)
    assert any(p.launch for stage in found for p in stage) == ("cublaslt" not in without and "epilogues" not in without)
    assert (max(map(len, found)) > 1) == ("forks" not in without)


def test_algorithms_are_the_first_ones_where_nothing_is_timed(on_stand_in, monkeypatch):
    for without, numbers in (("timing", {0}), ("", {2})):
        monkeypatch.setenv("MINIGRAD_GPU_WITHOUT", without)
        on_stand_in.choose = lambda n: 2
        ours = mg.compile(mg.vmap(attention, (None, 0)), backend="cupy")
        for _ in range(2):
            on_stand_in.lt.used.clear()
            ours(*attended())
        assert set(on_stand_in.lt.used[-6:]) == numbers


def test_a_choice_is_the_programs(on_stand_in):
    """A second workspace for the same sizes takes over the algorithms that the first one has chosen."""
    counts = []
    on_stand_in.choose = lambda n: counts.append(n) or 1
    ours = mg.compile(mg.vmap(attention, (None, 0)), backend="cupy")
    for _ in range(2):
        ours(*attended())
    timed = len(counts)
    assert 0 < timed <= 6
    ours.entries[0].program._pools.clear()
    on_stand_in.lt.used.clear()
    for _ in range(2):
        ours(*attended())
    assert len(counts) == timed
    assert set(on_stand_in.lt.used) == {1}


def test_programs_run_where_cublaslt_is_not_installed(on_stand_in, monkeypatch):
    monkeypatch.setattr(on_stand_in.blas, "lt", None)
    for f, args in ((mg.vmap(attention, (None, 0)), attended()),
                    (mg.value_and_grad(mg.mean_loss(programs.softmax_loss, (None, 0, 0))), programs.network(5))):
        ours, want = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
        for _ in range(3):
            same(ours(*args), want(*args), 1e-4)
    assert on_stand_in.lt.used == []


def test_an_unknown_part_is_named(on_stand_in, monkeypatch):
    monkeypatch.setenv("MINIGRAD_GPU_WITHOUT", "forks,spoons")
    with pytest.raises(MinigradError, match="MINIGRAD_GPU_WITHOUT names spoons; there are cublaslt, epilogues, timing"):
        mg.compile(np.sin, backend="cupy")(np.ones(3))


def test_gradients_of_weights_and_inputs_run_at_the_same_time(on_stand_in):
    ours, want = step()
    args = programs.network(6)
    for _ in range(3):
        same(ours(*args), want(*args))
    counts = [len(stage) for stage in stages(ours)]
    assert 1 < max(counts) <= BESIDE
    assert on_stand_in.graphs[-1].forks == sum(n * (n - 1) // 2 for n in counts)


@pytest.mark.parametrize("f", [
    lambda x, y: (x @ y + y[0], (x @ y + y[0]) @ y),  # a result, and something that is read twice
    lambda x, y: np.tanh(x @ y + y[0]) @ y,  # another kernel reads the sum
    lambda x, y: (x @ y + x[:, :1]) @ y,  # a number for each row
    lambda x, y: (x @ y + 1.5) @ y,
    lambda x, y: (x @ y + (x @ y)[0]) @ y,  # the vector is made of the product
    lambda x, y: (x @ y).T @ (x @ y + y[1]),
    lambda x, y: ((x @ y).reshape(2, 2, 4) + y[2]).reshape(4, 4) @ y,
    lambda x, y: ((x @ y).reshape(8, 2) + y[2, :2]).reshape(4, 4) @ y,  # a vector for each half of a row
    lambda x, y: (x @ y + np.tanh(y[3])) @ y,
    lambda x, y: (np.sin(y[:2, ::2].reshape(4)) + x @ y) @ y,
    lambda x, y: (x[:, :0] @ y[:0] + y[0]) @ y,  # a product over nothing
    lambda x, y: (x[0] @ y + y[0]) @ y,
    lambda x, y: (x @ y[:, 0] + y[0]) @ y])
def test_sums_that_look_like_a_bias(on_stand_in, f):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 4)).astype("f4")
    ours = mg.compile(f, backend="cupy")
    for _ in range(3):
        same(ours(x, y), f(x, y), 1e-4)


# -- the check of races ------------------------------------------------------------------------------------


def node(name, after, reads=(), writes=()):
    return Node(name, lambda: None, frozenset(after), reads, writes)


def test_races_are_found():
    a, b = node("a", (), [(0, 8)], [(8, 16)]), node("b", (0,), [(8, 16)], [(16, 24)])
    assert races([a, b, node("c", (0,), [(0, 8)], [(24, 32)])]) == []
    assert races([a, b, node("c", (1,), [(0, 8)], [(16, 24)])]) == []
    assert races([a, b, node("c", (0,), [(0, 8)], [(20, 28)])]) != [], "two writers"
    assert races([a, b, node("c", (0,), [(23, 25)], [(24, 32)])]) != [], "a reader of what the other one writes"
    assert races([a, b, node("c", (0,), [(0, 8)], [(15, 17)])]) != [], "a writer of what the other one reads"
    with pytest.raises(AssertionError, match="b writes"):
        Recorded([a, b, node("c", (0,), [(16, 17)])], 1)


def test_races_of_kernels_are_found_by_another_order(on_stand_in):
    x = on_stand_in.array((2,), np.dtype("f8"), on_stand_in.allocate(16))

    def graph(first, second):
        recording = Recording(on_stand_in._capture_stream)
        on_stand_in._own.capturing = on_stand_in._capture_stream
        on_stand_in.fork([lambda: on_stand_in.enqueue(on_stand_in.stream(), "k1", first),
                          lambda: on_stand_in.enqueue(on_stand_in.stream(), "k2", second)])
        on_stand_in._own.capturing = None
        recording.close()
        return Recorded(recording.nodes, 0)

    def write(k, value):
        def run():
            x[k] = value() if callable(value) else value
        return run

    def collect():
        gc.collect()
        return 2.0

    graph(write(0, 1.0), write(1, 2.0)).launch()
    garbage = [on_stand_in.allocate(16)]
    garbage.append(garbage)
    del garbage
    graph(write(0, 1.0), write(1, collect)).launch()
    with pytest.raises(AssertionError, match="their order changes the results"):
        graph(write(0, 3.0), write(1, lambda: x[0] + 1)).launch()


def test_a_fork_must_be_joined(on_stand_in):
    def loose():
        on_stand_in._forked.record(on_stand_in._capture_stream)
        side = on_stand_in._sides[0]
        side.wait_event(on_stand_in._forked)
        on_stand_in._own.capturing = side
        on_stand_in.clear(on_stand_in.allocate(8).ptr, 8)
        on_stand_in._own.capturing = on_stand_in._capture_stream

    with pytest.raises(MinigradError, match="904"):
        on_stand_in.capture((), loose)
    on_stand_in.capture((), lambda: on_stand_in.fork([lambda: None] * BESIDE))


def two_products(x):
    return np.sin((np.sin(x) @ np.cos(x)) + (np.exp(x) @ np.tanh(x)))


def test_memory_of_products_at_the_same_time_is_apart(on_stand_in, monkeypatch):
    """The check sees where the arena ignores what runs at the same time."""
    x = np.random.default_rng(0).normal(size=(9, 9))

    def captured():
        ours = mg.compile(two_products, backend="cupy")
        for _ in range(3):
            same(ours(x), two_products(x))

    captured()
    assert on_stand_in.graphs[-1].forks == 1

    def one_by_one(self):
        made = build(self)
        ops = [p for op in made.ops for p in getattr(op, "products", [op])]
        for key in made.span:
            touching = [at for at, op in enumerate(ops) if key in op.touched]
            made.span[key] = touching[0], touching[-1]
        return made

    build = launch_plan.Planner.build
    with monkeypatch.context() as patched:
        patched.setattr(launch_plan.Planner, "build", one_by_one)
        with pytest.raises(AssertionError, match="neither waits for the other"):
            captured()
