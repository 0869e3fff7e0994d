"""The worker's side: programs it keeps, and arrays it opens."""

from collections import deque

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed import worker
from minigrad.distributed.divide import Dividing

from .losses import AXES, W, X, Y, loss


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(worker, "_programs", {})
    divided, leaves, sizes = Dividing(mg.grad(mg.mean_loss(loss, in_axes=AXES)), AXES, "distribute")((W, X, Y), {})
    return worker.Part(divided.key, divided.body, divided.operands(leaves, sizes), 0)


def test_a_program_that_is_not_known_is_asked_for(task):
    assert worker.run(task._replace(program=None)) is None
    first = worker.run(task)
    again = worker.run(task._replace(program=None))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_oldest_program_goes(task, monkeypatch):
    monkeypatch.setattr(worker, "_MOST", 2)
    for key in "abc":
        worker.run(task._replace(key=key))
    assert list(worker._programs) == ["b", "c"]


def test_a_value_is_kept_until_another_takes_its_place(task):
    place = next(k for k, x in enumerate(task.operands) if x.shape == W.shape)

    def of(version, value, program=task.program):
        operands = list(task.operands)
        operands[place] = worker.Kept(place, version, value)
        return task._replace(program=program, operands=operands)

    assert worker.run(of("1", None)) is None  # which keeps the program
    (first,) = worker.run(of("1", W, None))
    (again,) = worker.run(of("1", None, None))
    np.testing.assert_array_equal(first, again)
    assert worker.run(of("2", None, None)) is None
    (other,) = worker.run(of("2", W + 1, None))
    assert not np.array_equal(other, first)
    assert worker.run(of("1", None, None)) is None


def interrupts(x):
    raise KeyboardInterrupt


def test_no_part_of_a_call_runs_after_ctrl_c(task):
    f = mg.mean_loss(lambda w, x: mg.callback(interrupts, mg.f64[()], x) * w, in_axes=(None, 0))
    divided, leaves, sizes = Dividing(f, (None, 0), "distribute")((2.0, np.arange(3.0)), {})
    stopped = worker.Part(divided.key, divided.body, divided.operands(leaves, sizes), 0, call="stopped")
    with pytest.raises(KeyboardInterrupt):
        worker.run(stopped)
    with pytest.raises(KeyboardInterrupt):
        worker.run(task._replace(call="stopped"))
    worker.run(task._replace(call="another"))


def test_ctrl_c_while_a_program_is_unpickled_ends_the_parts_to_come(task, monkeypatch):
    def interrupted(text):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "_stopped", deque())
    with monkeypatch.context() as patch:
        patch.setattr(worker.pickle, "loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.run(task._replace(call="this"))
    with pytest.raises(KeyboardInterrupt):
        worker.run(task._replace(call="this"))
    assert worker.run(task._replace(call="another")) is not None


def test_a_function_that_the_worker_cannot_import_is_named(task):
    for program in (b"cminigrad.distributed.worker\nmissing\n.", b"cno_such_module\nf\n."):
        with pytest.raises(ImportError, match=r"a worker cannot import a function of the program: .*(missing|no_such).*"
                                              "in a module that they import"):
            worker.run(task._replace(program=program, key="another"))
