"""The record of the choice between BLAS and generated code: read as written, ignored if damaged or foreign."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import blas
from minigrad.backends import code_cache
from minigrad.backends.native.kernels import gemm, gemm_record
from minigrad.backends.native.kernels.gemm_choice import KINDS, NEVER, Choice, Cuts, Gain, uniform
from minigrad.backends.native.kernels.gemm_record import Record
from minigrad.backends.native.runtime import jit

if jit.available() or blas.find()[0] is None:
    pytest.skip(str(jit.available() or blas.find()[1]), allow_module_level=True)

ROOT = Path(__file__).resolve().parents[4]
PROGRAM = """
import numpy as np
import minigrad as mg
rng = np.random.default_rng(0)
w, x = rng.normal(size=(60, 40)), rng.normal(size=(50, 60))
print(mg.compile(lambda w, x: np.tanh(x @ w), backend="native")(w, x).tobytes().hex())
"""


def record(choice=None):
    choice = choice or Choice({kind: Cuts(1000 * k, NEVER if k % 2 else 10**7) for k, kind in enumerate(KINDS)})
    return Record(choice, [Gain(1.25, 0.5, None)] * len(KINDS), 3, "2026-11-29")


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(code_cache, "_warned", set())
    gemm_record.resources.cache_clear()
    yield tmp_path
    gemm_record.resources.cache_clear()


def keep(where, text):
    code_cache.keep_record(where, gemm_record.name(), text)
    return where / gemm_record.name()


def test_records_are_read_as_written(where):
    assert gemm_record.read() is None
    written = record()
    keep(where, gemm_record.text(written))
    found = gemm_record.read()
    assert found.choice.cuts == written.choice.cuts
    assert found._replace(choice=None) == written._replace(choice=None)


def test_the_record_is_json_that_names_its_products(where):
    data = json.loads(gemm_record.text(record()))
    assert data["schema"] == 1
    assert data["machine"]["cpu"] == jit.host().cpu
    assert data["products"][1] == {"kind": "float32, broad x @ y.T", "up_to": 1000, "from": None,
                                   "blas_is_faster_by": [1.25, 0.5, None]}


def test_products_follow_the_record_and_the_process_reads_it_once(where):
    usual = gemm.resources(2)
    assert gemm_record.resources(2) == usual
    keep(where, gemm_record.text(record()))
    assert gemm_record.resources(2) == usual
    gemm_record.resources.cache_clear()
    assert gemm_record.resources(2).choice.cuts == record().choice.cuts
    assert gemm_record.resources(2)._replace(choice=usual.choice) == usual


def changed(**facts):
    return json.dumps({**json.loads(gemm_record.text(record())), **facts})


def row(**facts):
    rows = json.loads(gemm_record.text(record()))["products"]
    return changed(products=[{**rows[0], **facts}, *rows[1:]])


@pytest.mark.parametrize("text", [
    lambda: "", lambda: "{}", lambda: "[]", lambda: "[" * 10**4, lambda: gemm_record.text(record())[:-9],
    lambda: changed(schema=2), lambda: changed(machine={**gemm_record.machine(), "cpu": "another"}),
    lambda: changed(machine={**gemm_record.machine(), "blas": "another"}), lambda: changed(products=[]),
    lambda: changed(threads="all"), lambda: row(up_to=-1), lambda: row(up_to=1.5), lambda: row(up_to=NEVER),
    lambda: row(kind="float16"), lambda: row(blas_is_faster_by=[1.0]), lambda: row(blas_is_faster_by=[1.0, "x", None]),
    lambda: " " * 10**5])
def test_damaged_and_foreign_records_are_ignored_with_a_warning(where, text):
    keep(where, text())
    with pytest.warns(RuntimeWarning, match=r"products-.*json is not used, because it is ") as caught:
        assert gemm_record.read() is None
    assert gemm_record.resources(2) == gemm.resources(2)
    assert len(caught) == 1


def test_without_a_cache_the_choice_is_the_usual_one(where, monkeypatch):
    keep(where, gemm_record.text(record()))
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "")
    assert gemm_record.resources(2) == gemm.resources(2)


def test_lines_say_what_blas_computes_and_why(where):
    (line,) = gemm_record.described()
    assert "not measured" in line
    keep(where, gemm_record.text(record(Choice({kind: Cuts(5000, 10**7) for kind in KINDS}))))
    lines = gemm_record.described()
    assert "measured on 2026-11-29 with 3 threads" in lines[0]
    assert lines[1] == ("  float32, broad x @ y: BLAS up to 5,000 multiplications (1.25 × as fast), from 10,000,000; "
                        "generated code (2.00 × as fast)")
    assert len(lines) == 1 + len(KINDS)


def run(where):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True,
                          env={**os.environ, "MINIGRAD_CACHE_DIR": str(where), "PYTHONPATH": str(ROOT)})
    return np.frombuffer(bytes.fromhex(done.stdout))


def test_equal_records_give_equal_bits_and_other_records_equal_results(where):
    results = []
    for cuts in (Cuts(0, NEVER), Cuts(NEVER - 1, NEVER)):
        keep(where, gemm_record.text(record(uniform(cuts))))
        first, again = run(where), run(where)
        assert np.array_equal(first, again)
        results.append(first)
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-13)
