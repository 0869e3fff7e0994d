"""The kernels that programs share, compiled ahead of them."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.backends import code_cache, native

pytest.importorskip("llvmlite")

from minigrad.backends.native.kernels import gemm
from minigrad.backends.native.shared_kernels import fill, requests

PROGRAMS = """
import json
import numpy as np
import minigrad as mg
from minigrad.backends.native.runtime import cache, jit

texts = []

def compile_all(some, machine=None):
    new = list(some)
    texts.extend(new)
    return jit.compile_all(new, machine)

cache.compile_all = compile_all
w, x = np.ones((40, 40)) / 4, np.arange(160.0).reshape(4, 40)

def chain(w, x):
    return np.sum(mg.scan(lambda h, x: (np.tanh(w @ h + x), None), x, np.stack([x, x]))[0])

for dtype in (np.float32, np.float64):
    mg.compile(lambda w, x: np.tanh(x @ w), backend="native")(w.astype(dtype), x.astype(dtype))
mg.compile(mg.grad(mg.mean_loss(chain, in_axes=(None, 0))), backend="native")(w, x)
print(json.dumps(texts))
"""


def run(where):
    """Return the modules that the programs compile in a process whose cache is `where`."""
    done = subprocess.run([sys.executable, "-c", PROGRAMS], capture_output=True, text=True, check=True,
                          env={**os.environ, "MINIGRAD_CACHE_DIR": str(where)})
    return set(json.loads(done.stdout))


def test_every_kernel_of_its_own_name_is_shared():
    """A module with a `code_request` has code that depends on no program."""
    package = Path(native.__file__).parent
    names = [".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")
             if "def code_request(" in path.read_text(encoding="utf-8")]
    modules = [importlib.import_module(f"{native.__name__}.{name}") for name in names]
    keys = {request.key for request in requests()}
    assert {m.code_request().key for m in modules} | {
        request.key for d in ("f4", "f8") for request in gemm.code_requests(np.dtype(d))} == keys
    assert len(modules) == len(keys) - 4


def test_a_filled_cache_leaves_programs_their_own_kernels(tmp_path, monkeypatch):
    shared = {request.make()[0] for request in requests()}
    filled, empty = tmp_path / "filled", tmp_path / "empty"
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(filled))
    assert fill() == len(shared) == len(code_cache.entries(filled))
    before, after = run(empty), run(filled)
    assert len(before & shared) >= 5, "the pool, the runner, two products and the scan"
    assert not after & shared
    assert after == before - shared
