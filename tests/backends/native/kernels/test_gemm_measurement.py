"""The measurement of BLAS against generated code: its products, the cuts that times suggest, and its record."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llvmlite")

from minigrad import blas
from minigrad.backends import code_cache
from minigrad.backends.native.kernels import gemm, gemm_measurement, gemm_record
from minigrad.backends.native.kernels.gemm_choice import AVX512, KINDS, NARROW, NEVER, Cuts, uniform
from minigrad.backends.native.kernels.gemm_measurement import PRODUCTS, Timing, fitted, sizes
from minigrad.backends.native.runtime import jit

if jit.available() or blas.find()[0] is None:
    pytest.skip(str(jit.available() or blas.find()[1]), allow_module_level=True)

ROOT = Path(__file__).resolve().parents[4]
WORKS = [1 << k for k in range(12, 28)]


def timings(faster, shared=True):
    """Return times of products at which BLAS is `faster(work)` times as fast."""
    return [Timing(kind, work, 1e-6 * faster(work), 1e-6, shared) for kind in KINDS for work in WORKS]


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_products_are_as_many_narrow_ones_as_broad_ones():
    found = sizes()
    narrow = [min(m, n) < NARROW for m, _, n in found]
    assert sum(narrow) == PRODUCTS == len(found) - sum(narrow)
    assert len(set(found)) == len(found)
    assert min(map(min, found)) >= 2
    assert max(map(math.prod, found)) <= 1 << 27


@pytest.mark.parametrize("usual", [AVX512, uniform(Cuts(0, NEVER)), uniform(Cuts(NEVER, NEVER))])
def test_cuts_are_where_the_faster_method_changes(usual):
    choice, gains = fitted(timings(lambda work: 1.5 if work <= 1 << 16 or work >= 1 << 22 else 0.5), usual)
    assert set(choice.cuts.values()) == {Cuts(1 << 16, 1 << 22)}
    for gain in gains:
        assert gain == pytest.approx((1.5, 0.5, 1.5))


def test_large_products_of_few_pieces_stay_with_generated_code():
    choice, _ = fitted(timings(lambda work: 2.0 if work >= 1 << 22 else 0.5, shared=False), uniform(Cuts(0, NEVER)))
    assert set(choice.cuts.values()) == {Cuts(0, NEVER)}


def test_usual_cuts_stay_where_others_win_little_and_where_one_time_is_far_off():
    far_off = [Timing(kind, WORKS[-1] + 1, 5e-5, 1e-6, True) for kind in KINDS]
    for some in (timings(lambda work: 1.01), 3 * timings(lambda work: 0.9) + far_off):
        choice, _ = fitted(some, uniform(Cuts(0, NEVER)))
        assert set(choice.cuts.values()) == {Cuts(0, NEVER)}


def test_each_kind_is_timed():
    found = gemm_measurement.timings(gemm_measurement.steps(), gemm.resources(2), [(20, 30, 40), (3, 100, 50)])
    assert {t.kind for t in found} == set(KINDS)
    assert {t.work for t in found} == {24_000, 15_000}
    assert all(t.generated > 0 and t.blas > 0 for t in found)


def fake(monkeypatch, faster):
    counted = []

    def times(*args):
        counted.append(args)
        return timings(faster)

    monkeypatch.setattr(gemm_measurement, "timings", times)
    return counted


def test_the_choice_follows_the_measurement_and_a_record_is_kept(where, monkeypatch):
    counted = fake(monkeypatch, lambda work: 2.0 if work <= 1 << 14 else 0.5)
    gemm_measurement.fill()
    assert set(gemm_record.read().choice.cuts.values()) == {Cuts(1 << 14, NEVER)}
    fake(monkeypatch, lambda work: 2.0 if work <= 1 << 20 else 0.5)
    gemm_measurement.fill()
    assert set(gemm_record.read().choice.cuts.values()) == {Cuts(1 << 14, NEVER)}
    assert len(counted) == 1
    code_cache.clear(where)
    assert gemm_record.read() is None
    gemm_measurement.fill()
    assert set(gemm_record.read().choice.cuts.values()) == {Cuts(1 << 20, NEVER)}


def test_damaged_records_are_measured_again(where, monkeypatch):
    monkeypatch.setattr(code_cache, "_warned", set())
    fake(monkeypatch, lambda work: 2.0)
    (where / gemm_record.name()).write_text("{")
    with pytest.warns(RuntimeWarning, match="damaged"):
        gemm_measurement.fill()
    assert gemm_record.read() is not None


def test_nothing_is_measured_without_a_place_for_the_record_or_a_blas(where, monkeypatch):
    counted = fake(monkeypatch, lambda work: 2.0)
    for variable in (str(where / "notes.txt"), ""):
        (where / "notes.txt").write_text("a file stands where the directory should be")
        monkeypatch.setenv("MINIGRAD_CACHE_DIR", variable)
        gemm_measurement.fill()
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(where))
    monkeypatch.setattr(blas, "find", lambda: (None, "none in this test"))
    gemm_measurement.fill()
    assert not counted
    assert not list(where.glob("*.json"))


def test_two_processes_measure_at_once(where):
    code = """
from minigrad.backends.native.kernels import gemm_measurement, gemm_record
gemm_measurement.PRODUCTS = 2
gemm_measurement.sizes.__defaults__ = (2,)
gemm_measurement.fill()
assert gemm_record.read() is not None
"""
    environment = {**os.environ, "MINIGRAD_CACHE_DIR": str(where), "PYTHONPATH": str(ROOT)}
    some = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in some] == [0, 0]
    (path,) = where.glob("*.json")
    assert len(json.loads(path.read_text())["products"]) == len(KINDS)
    assert not list(where.glob("*.part"))
