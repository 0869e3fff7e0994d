"""Executors: workers, pools that break, joblib's loky, and the pool of MPI."""

import functools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed import executors
from minigrad.errors import MinigradError

from .losses import AXES, W, X, Y, loss

ROOT = Path(__file__).resolve().parents[2]
GRADIENT = mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES))


def kills(path, x):
    """End this process on the first call."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return x
    os._exit(1)


def dying(tmp_path):
    """Return a mean whose first call ends its worker, the wanted value, and the number."""
    path = str(tmp_path / "called")
    f = mg.mean_loss(lambda w, x: mg.callback(functools.partial(kills, path), mg.f64[()], x) * w, in_axes=(None, 0))
    x = np.arange(6.0)
    return f, x, 2 * x.mean()




def fresh():
    return ProcessPoolExecutor(1, get_context("spawn"))


def test_numbers_of_workers():
    class Unknown:
        def submit(self, fn, /, task):
            raise NotImplementedError

    with ThreadPoolExecutor(3) as threads:
        assert executors.workers(threads) == 3
        assert executors.in_process(threads)
    assert executors.workers(Unknown()) == os.cpu_count()
    assert not executors.in_process(Unknown())


def test_a_function_makes_the_executor_once():
    made = []

    def make():
        made.append(ThreadPoolExecutor(2))
        return made[-1]

    step = mg.distribute(GRADIENT, make)
    assert not made
    np.testing.assert_allclose(step(W, X, Y)[1], GRADIENT(W, X, Y)[1], rtol=1e-12)
    step(W, X, Y)
    assert len(made) == 1
    made[0].shutdown()
    with pytest.raises(MinigradError, match="cannot schedule new futures after shutdown"):
        step(W, X, Y)


def test_a_step_runs_again_on_a_fresh_pool(tmp_path):
    f, x, want = dying(tmp_path)
    made = []

    def make():
        made.append(fresh())
        return made[-1]

    step = mg.distribute(f, make, 3)
    assert step(2.0, x) == pytest.approx(want)
    assert len(made) == 2
    assert step(3.0, x) == pytest.approx(want * 1.5)
    assert len(made) == 2
    made[1].shutdown()


def test_a_pool_that_breaks_says_what_to_do(tmp_path):
    f, x, want = dying(tmp_path)
    with fresh() as pool:
        step = mg.distribute(f, pool, 3)
        with pytest.raises(MinigradError, match=r"part 0 of 3 \(examples 0 to 1\): BrokenProcessPool: .*distribute\(f, "
                                                r"lambda: ProcessPoolExecutor\(2\)\)"):
            step(2.0, x)
        with pytest.raises(MinigradError, match="broken pool takes no more calls"):
            step(2.0, x)
    with fresh() as pool:
        assert mg.distribute(f, pool, 3)(2.0, x) == pytest.approx(want)


def test_a_pool_that_breaks_twice_is_an_error():
    f = mg.mean_loss(lambda w, x: mg.callback(ends, mg.f64[()], x) * w, in_axes=(None, 0))
    made = []

    def make():
        made.append(fresh())
        return made[-1]

    with pytest.raises(MinigradError, match="BrokenProcessPool"):
        mg.distribute(f, make, 2)(2.0, np.arange(4.0))
    assert len(made) == 2


def ends(x):
    os._exit(1)


STOPPED = """
import signal
import time
from concurrent.futures import ProcessPoolExecutor
import numpy as np
import minigrad as mg

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored

def slow(x):
    print("in a part", flush=True)
    time.sleep(300)
    return x

if __name__ == "__main__":
    f = mg.mean_loss(lambda w, x: mg.callback(slow, mg.f64[()], x) * w, in_axes=(None, 0))
    with ProcessPoolExecutor(2) as pool:
        mg.distribute(f, pool, 6)(2.0, np.arange(6.0))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of a terminal")
def test_ctrl_c_leaves_no_process(tmp_path):
    (tmp_path / "stopped.py").write_text(STOPPED, encoding="utf-8")
    running = subprocess.Popen([sys.executable, str(tmp_path / "stopped.py")], start_new_session=True, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        assert running.stdout.readline().startswith("in a part")  # two workers may write at once
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        _, errors = running.communicate(timeout=300)  # which ends when no process has the pipe
        assert "KeyboardInterrupt" in errors
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)


def test_loky(tmp_path):
    loky = pytest.importorskip("joblib.externals.loky")
    reusable = lambda: loky.get_reusable_executor(2, timeout=60)  # noqa: E731
    step = mg.distribute(GRADIENT, reusable)
    value, gradient = step(W, X, Y)
    with ThreadPoolExecutor(1) as threads:
        alone = mg.distribute(GRADIENT, threads, 2)(W, X, Y)
    assert (value, gradient.tobytes()) == (alone[0], alone[1].tobytes())
    f, x, want = dying(tmp_path)
    assert mg.distribute(f, reusable, 3)(2.0, x) == pytest.approx(want)
    np.testing.assert_array_equal(step(W, X, Y)[1], gradient)
    loky.get_reusable_executor().shutdown(wait=True)


OF_MAIN = """
import numpy as np
import minigrad as mg
from joblib.externals.loky import get_reusable_executor

def host(x):
    return np.sin(x)

if __name__ == "__main__":
    f = mg.mean_loss(lambda w, x: mg.callback(host, mg.f64[()], x) * w, in_axes=(None, 0))
    mg.distribute(f, lambda: get_reusable_executor(2))(2.0, np.arange(6.0))
"""


def test_loky_does_not_know_functions_of_the_script(tmp_path):
    pytest.importorskip("joblib.externals.loky")
    script = tmp_path / "of_main.py"
    script.write_text(OF_MAIN, encoding="utf-8")
    out = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False,
                         env={**os.environ, "PYTHONPATH": str(ROOT)})
    last = out.stderr.splitlines()[-1]
    assert "of_main.py:11: distribute(lambda_): part 0 of 2 (examples 0 to 2): ImportError: a worker" in last, last
    assert "'host'" in last


POOL = """
import numpy as np
import minigrad as mg
from concurrent.futures import ThreadPoolExecutor
from mpi4py.futures import MPIPoolExecutor
from minigrad.errors import MinigradError

def loss(w, x):
    return np.tanh(w @ x) ** 2

def main():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=5), rng.normal(size=(7, 5))
    gradient = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0)))
    with MPIPoolExecutor() as pool, ThreadPoolExecutor(1) as threads:
        step, alone = mg.distribute(gradient, pool), mg.distribute(gradient, threads, 2)
        for scale in (1.0, 1.0, 2.0):
            (value, slopes), (v, s) = step(scale * w, x), alone(scale * w, x)
            assert value == v and slopes.tobytes() == s.tobytes()
        norms = mg.distribute(mg.per_example.norms(loss, in_axes=(None, 0)), pool)(w, x)
        assert norms.shape == (7,)
        try:
            mg.distribute(mg.mean_loss(lambda w, k: w[k], in_axes=(None, 0)), pool)(w, np.array([1, 9]))
        except IndexError as error:
            assert "part 1 of 2 (examples 1 to 1)" in str(error), error
    print("same bits")

if __name__ == "__main__":
    main()
"""


def test_pool_of_mpi(tmp_path):
    pytest.importorskip("mpi4py.futures")
    runs = Path(sys.executable).with_name("mpirun")
    if not runs.exists():
        pytest.skip("no mpirun beside this Python")
    script = tmp_path / "pool.py"
    script.write_text(POOL, encoding="utf-8")
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "PYTHONPATH": str(ROOT)}
    command = [str(runs), "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures", str(script)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert out.returncode == 0, out.stderr
    assert "same bits" in out.stdout


MPI_PART = """
import os
import time
import numpy as np
import minigrad as mg
from mpi4py.futures import MPIPoolExecutor

def part(x):
    print("in a part", flush=True)
    {work}
    return x

if __name__ == "__main__":
    f = mg.mean_loss(lambda w, x: mg.callback(part, mg.f64[()], x) * w, in_axes=(None, 0))
    with MPIPoolExecutor() as pool:
        mg.distribute(f, pool)(2.0, np.arange(6.0))
    print("done")
"""


@pytest.fixture
def on_mpi(tmp_path):
    """Return a function that starts a script whose parts do some work on the pool of MPI, in a group of its own."""
    pytest.importorskip("mpi4py.futures")
    runs = Path(sys.executable).with_name("mpirun")
    if not runs.exists():
        pytest.skip("no mpirun beside this Python")
    started = []

    def start(work):
        script = tmp_path / "part.py"
        script.write_text(MPI_PART.replace("{work}", work), encoding="utf-8")
        command = [str(runs), "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures", str(script)]
        started.append(subprocess.Popen(
            command, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                 "PYTHONPATH": str(ROOT)}))
        return started[-1]

    yield start
    for running in started:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)


def test_a_worker_of_mpi_that_dies_ends_the_job(on_mpi):
    running = on_mpi("os.kill(os.getpid(), 9)")
    out, _ = running.communicate(timeout=300)  # which ends when no process has the pipe
    assert running.returncode != 0
    assert "done" not in out


def test_ctrl_c_ends_a_job_of_mpi(on_mpi):
    running = on_mpi("time.sleep(300)")
    while "in a part" not in (line := running.stdout.readline()):
        assert line, "the job has ended"
    os.kill(running.pid, signal.SIGINT)  # as a terminal does: mpirun passes it on
    running.communicate(timeout=300)
    assert running.returncode != 0


def ends_within(group, seconds):
    """Return whether all processes of a group end in some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


ON_DASK = STOPPED.replace("from concurrent.futures import ProcessPoolExecutor",
                          "from dask.distributed import Client, LocalCluster").replace(
    "with ProcessPoolExecutor(2) as pool:",
    'with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local, Client(local) as pool:')


@pytest.mark.skipif(os.name != "posix", reason="signals of a terminal")
def test_ctrl_c_leaves_no_process_of_dask(tmp_path):
    pytest.importorskip("dask.distributed", reason="needs the extra dask")
    (tmp_path / "stopped.py").write_text(ON_DASK, encoding="utf-8")
    running = subprocess.Popen([sys.executable, str(tmp_path / "stopped.py")], start_new_session=True, text=True,
                               env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while "in a part" not in (line := running.stdout.readline()):
            assert line, running.stderr.read()
        os.kill(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=300)  # which ends when no process has the pipe
        assert "KeyboardInterrupt" in errors
        assert ends_within(running.pid, 120)  # the nannies end a little later
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
