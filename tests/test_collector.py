"""Pauses of the cyclic garbage collector."""

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.collector import uncollected


def test_the_collector_pauses_and_goes_on():
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), uncollected():
        raise KeyError
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_last_of_several_threads_ends_the_pause():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with uncollected():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with uncollected():
        thread.start()
        assert inside.wait(60)
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


@pytest.mark.parametrize(("before", "after"), [("", True), ("gc.disable()", False)])
def test_the_import_leaves_the_collector_as_it_was(before, after):
    text = f"import gc; {before or 'pass'}\nimport minigrad as mg\nmg.compile\nprint(gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_in_a_pause_collects():
    with uncollected():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_objects_of_imported_modules_are_old_at_once(tmp_path, monkeypatch):
    (tmp_path / "module_of_objects.py").write_text("KEPT = [[] for _ in range(5000)]")
    monkeypatch.syspath_prepend(tmp_path)
    gc.collect()
    with uncollected():
        import module_of_objects
    assert len(gc.get_objects(0)) + len(gc.get_objects(1)) < 1000 < len(module_of_objects.KEPT)


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_garbage_of_callers_is_collected_while_programs_compile(backend):
    class Thing:
        pass

    def compiled(k):
        thing = Thing()
        thing.itself = thing
        mg.compile(lambda x: np.sum(np.sin(x) * k), backend=backend)(np.ones(3))
        return weakref.ref(thing)

    compiled(0)
    gc.collect()
    things = [compiled(k) for k in range(150)]
    assert sum(thing() is not None for thing in things) < 75


def test_a_compiled_layer_leaves_no_cycles_behind():
    def garbage(layers):
        def loss(ws, x):
            for w in ws:
                x = np.tanh(x @ w)
            return np.sum(x)

        step = mg.compile(mg.value_and_grad(loss), backend="native")
        gc.collect()
        with uncollected():
            step.build([mg.f32[3, 3]] * layers, mg.f32[5, 3])
            return gc.collect()

    for layers in (4, 9):
        garbage(layers)  # with that of code, which further programs share
    assert garbage(4) == garbage(9)
