"""The command line, as a person uses it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad
from minigrad import cli
from minigrad.report import digits, training

ROOT = Path(__file__).resolve().parents[1]
DIGITS = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")

MINE = '''
import numpy as np

rng = np.random.default_rng(0)
examples = rng.normal(size=(20, 3)), rng.normal(size=20)
other = rng.normal(size=(3, 8)), rng.normal(size=8)


def params():
    return {"w": rng.normal(size=3), "b": 0.5}


def loss(p, x, y):
    return (x @ p["w"] + p["b"] - y) ** 2


def branches(p, x, y):
    if x[0] > 0:
        return y
    return y * 2


def typo(p, x, y):
    return np.sum(x).foo


def fails(p, x, y):
    return y / {}["nothing"]


def vector(p, x, y):
    return x * p["w"]
'''


def line_of(text):
    """Return the number of the line of `MINE` that starts with `text`."""
    return next(i for i, line in enumerate(MINE.splitlines(), 1) if line.strip().startswith(text))


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def run(*args, cwd):
    return subprocess.run([sys.executable, "-m", "minigrad", *map(str, args)], cwd=cwd, capture_output=True, text=True,
                          timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})


def refused(capsys, *args):
    """Run a command that must fail, and return its one line."""
    assert cli.main(list(map(str, args))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("minigrad: ")
    return err.removeprefix("minigrad: ").rstrip()


NUMPY_CODE = """
import math

import numpy as np


def loss(params, x):
    out = np.zeros(3)
    for k in range(3):
        out[k] = params[0] * math.exp(-x[k])
    return np.sum(np.array([out[0], out[2]]) ** 2)


params, examples = np.array([1.5]), np.arange(12.0).reshape(4, 3)
"""


def test_no_command_prints_all_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main([])
    text = capsys.readouterr().err
    assert "minigrad explore" in text
    assert all(f"    {name} " in text for name in ("compare", "explain", "check", "audit", "explore", "cache"))


@pytest.mark.parametrize("command", [["check"], ["explain"], ["compare", "--no-report", "--repeats", "1"],
                                     ["explore", "--no-browser", "--page", "page.html"]], ids=lambda c: c[0])
def test_numpy_code_runs_as_it_stands(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "plain.py"
    path.write_text(NUMPY_CODE)
    assert cli.main([*command, "--numpy-code", f"{path}:loss"]) == 0
    capsys.readouterr()
    message = refused(capsys, *command, f"{path}:loss")
    assert "plain.py:10" in message
    assert message.endswith("mg.numpy_code(f). On the command line that is --numpy-code.")


# -- compare ---------------------------------------------------------------------------------------------------


def test_compare_ones_own_loss(mine):
    done = run("compare", "mine.py:loss", "--repeats", 2, cwd=mine.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "loss: mean loss and gradient of 20 examples"
    assert [line.split()[0] for line in lines[2:6]] == ["loop", "unrolled", "vmapped", "microbatched"]
    assert done.stderr == "report: minigrad-report.html\n"
    assert "mine.py:" in (mine.parent / "minigrad-report.html").read_text(encoding="utf-8")


def test_compare_json_microbatch_and_other_names(mine, capsys, tmp_path):
    report = tmp_path / "there.html"
    assert cli.main(["compare", f"{mine}:loss", "--json", "--microbatch", "7", "--repeats", "1", "--copies", "3",
                     "--report", str(report)]) == 0
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["unrolled"]["examples"] == 3
    assert rows["microbatched"]["note"] == "7 at a time, 3 passes, the last of 6"
    assert rows["vmapped"]["difference"] < 1e-14
    assert report.exists()
    mine.write_text(MINE + "\nin_axes = None, 1, 0\n")
    assert cli.main(["compare", f"{mine}:loss", "--examples", "other", "--no-report", "--json", "--repeats", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["examples"] == 8
    assert not (tmp_path / "minigrad-report.html").exists()


@DIGITS
def test_compare_digits_trains_them(tmp_path):
    done = run("compare", "--repeats", 1, "--epochs", 6, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "loss: mean loss and gradient of 1,797 examples"
    mini = next(line for line in lines if line.startswith("mini-batch "))
    assert float(re.search(r"([\d.]+)%", mini)[1]) > 95
    page = (tmp_path / "minigrad-report.html").read_text(encoding="utf-8")
    for words in ("stochastic", "mini-batch", "accuracy on the held-out examples", "digits.py:"):
        assert words in page


@DIGITS
def test_digits_that_are_learnt_too_little_are_a_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "METHODS", (("mini-batch", 256, 0.01),))
    monkeypatch.setattr(cli, "compare", lambda *args, **kwargs: small_report())
    assert cli.main(["compare", "--epochs", "1", "--no-report"]) == 1
    assert "not more than 95%" in capsys.readouterr().err


def small_report():
    return minigrad.compare(lambda w, x: w * x, 1.0, (np.ones(3),), repeats=1, copies=1, progress=False)


@DIGITS
def test_the_digits_are_split_the_same_way_each_time():
    data, again = digits.load(3), digits.load(3)
    assert [len(x) for x in (*data.train, *data.held_out)] == [1438, 1438, 359, 359]
    np.testing.assert_array_equal(data.held_out[0], again.held_out[0])
    assert not np.array_equal(data.held_out[1], digits.load(4).held_out[1])
    assert data.train[0].dtype == np.float32
    assert 0 <= data.train[0].min() < data.train[0].max() == 1
    joined = {x.tobytes() for x in data.all[0]}
    assert joined == {x.tobytes() for part in (data.train, data.held_out) for x in part[0]}


def test_missing_scikit_learn_error_names_the_pip_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "pip install 'minigrad[examples]'" in refused(capsys, "compare")


# -- explain, check --------------------------------------------------------------------------------------------


def test_explain_prints_graphs_passes_and_program(mine):
    done = run("explain", "mine.py:loss", "--svg", "drawn", cwd=mine.parent)
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split("── ")
    assert [p.split(" ─")[0].split(":")[0] for p in parts[1:]] == [
        "one example", "the batch", "value and gradient of the batch", "what was done to it", "the program"]
    one, batch, gradient, passes, program = parts[1:]
    assert f"mine.py:{line_of('return (x @')}" in one
    assert "f64[B" not in one
    assert "x: f64[B, 3]" in batch
    assert "vmap, vjp" in gradient
    assert re.search(r"simplify: \d+ nodes became \d+", passes)
    assert "import numpy as np" in program
    for name in ("example", "batch", "gradient"):
        assert (mine.parent / f"drawn-{name}.svg").read_text(encoding="utf-8").startswith("<svg")
        assert f"drawn-{name}.svg" in done.stderr


def test_explain_names_transform_for_nodes_without_line(mine, capsys):
    assert cli.main(["explain", f"{mine}:loss"]) == 0
    out = capsys.readouterr().out
    assert "# ?" not in out
    assert re.search(r"mean\(.*# mean_loss\n", out)
    assert re.search(r"size\(B\) +# mean_loss, vjp\n", out)


def test_check_passes(mine, capsys):
    assert cli.main(["check", f"{mine}:loss"]) == 0
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "ok      gradients", "ok      batching", "ok      batching of the gradient"]


BROKEN = '''
import numpy as np
from minigrad.graph import PRIMITIVES
from minigrad.numpy import Array
from minigrad.traced_array import as_array
from minigrad.primitive import Primitive

square = PRIMITIVES["square"]
Primitive("wrong_cube", type=lambda t: t, eval=lambda xp, x: x * x * x, vjp=lambda g, out, x: [g * (2.0 * square(x))],
          jvp=lambda ts, out, x: ts[0] * (3.0 * square(x)),
          batch=lambda size, mapped, x: PRIMITIVES["flip"](PRIMITIVES["wrong_cube"](x), axes=(0,)))
params = np.array([0.3, 0.5])
examples = np.array([[1.0, 2.0], [0.5, -1.0], [0.1, 0.7]]),


def loss(w, x):
    h = np.tanh(w * x)
    if not isinstance(h, Array):
        return np.sum(h ** 3)
    return np.sum(Array(PRIMITIVES["wrong_cube"](as_array(h)._node)))
'''


def test_check_names_the_first_node_that_disagrees(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    done = run("check", "broken.py:loss", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    gradients, batching = done.stdout.split("FAILED  ")[1:]
    line = next(i for i, text in enumerate(BROKEN.splitlines(), 1) if text.startswith("    return np.sum(Array"))
    named = f"first node that disagrees: %3: f64[2] = wrong_cube(%2), at broken.py:{line}"
    assert gradients.startswith("gradients: check_grads(loss): the derivative of the result by w[0] is ")
    assert named in gradients
    assert "its vjp rule says" in gradients
    assert named in batching
    assert "mixes examples" in batching


# -- audit -----------------------------------------------------------------------------------------------------


STEPS = '''
import numpy as np

rng = np.random.default_rng(0)
lengths = {"token": rng.integers(2, 7, 10)}
mask = np.arange(7) < lengths["token"][:, None]
examples = rng.normal(size=(10, 7)) * mask, mask * 1.0
params = rng.normal(size=7)
tokens = np.full(10, 1 / lengths["token"].sum())


def loss(w, x, m):
    return np.sum(m * (w * x - 1) ** 2)


def gradient(w, x, m):
    return 2 * m * (w * x - 1) * x


def mean(w, x, m):
    return gradient(w, x, m).sum(axis=0) / len(x)


def over_tokens(w, x, m):
    return gradient(w, x, m).sum(axis=0) / m.sum()


def accumulated(w, x, m):
    return sum(over_tokens(w, x[k:k + 4], m[k:k + 4]) for k in (0, 4, 8)) / 3


def fails(w, x, m):
    return w / {}["nothing"]


def short(w, x, m):
    return w[:3]
'''


@pytest.fixture
def steps(tmp_path):
    path = tmp_path / "steps.py"
    path.write_text(STEPS)
    return path


def audited(steps, *more):
    return cli.main(["audit", *map(str, more), "--no-report"])


def test_audit_tells_a_right_step_from_a_wrong_one_by_its_exit_status(steps, capsys):
    assert audited(steps, f"{steps}:mean", "--loss", f"{steps}:loss") == 0
    assert capsys.readouterr().out.startswith("The step returns the mean over 10 examples.\n")
    assert audited(steps, f"{steps}:over_tokens", "--loss", "loss", "--lengths", "lengths") == 1
    assert capsys.readouterr().out.startswith("The step returns the mean over ")
    assert audited(steps, f"{steps}:over_tokens", "--loss", "loss", "--lengths", "lengths", "--expected",
                   "mean over token") == 0
    assert audited(steps, f"{steps}:over_tokens", "--gradients", f"{steps}:gradient", "--expected", "tokens") == 0


def test_audit_writes_its_page_and_numbers(steps):
    done = run("audit", "steps.py:accumulated", "--loss", "loss", "--lengths", "lengths", "--expected",
               "mean over token", "--json", cwd=steps.parent)
    assert done.returncode == 1, done.stderr
    assert done.stderr == "report: minigrad-audit.html\n"
    report = json.loads(done.stdout)
    assert report["goal"] == "mean over token"
    assert [len(m) for m in report["readings"][0]["microbatches"]] == [4, 4, 2]
    page = (steps.parent / "minigrad-audit.html").read_text(encoding="utf-8")
    assert report["verdict"].rstrip(".") in page


@DIGITS
def test_audit_finds_a_mean_of_microbatch_means_on_the_digits(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["audit"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("The step returns the mean of the means of 4 micro-batches of 32, 32, 32, 4 examples")
    assert err == "report: minigrad-audit.html\n"
    assert (tmp_path / "minigrad-audit.html").exists()


def test_audit_of_unusable_files_is_one_line(steps, capsys):
    step, loss = f"{steps}:mean", ("--loss", f"{steps}:loss")
    assert "needs --loss FILE:FUNC" in refused(capsys, "audit", step)
    assert "one of the two" in refused(capsys, "audit", step, *loss, "--gradients", f"{steps}:gradient")
    assert "has no function 'nothing'" in refused(capsys, "audit", step, "--loss", f"{steps}:nothing")
    assert refused(capsys, "audit", step, "--loss", "other.py:loss") == "no file other.py"
    assert "does not define 'rows', the number of rows" in refused(capsys, "audit", step, *loss, "--lengths", "rows")
    assert "tokens is a ndarray, not a dict" in refused(capsys, "audit", step, *loss, "--lengths", "tokens")
    assert "expected='median'" in refused(capsys, "audit", step, *loss, "--expected", "median")
    said = refused(capsys, "audit", f"{steps}:fails", *loss)
    line = next(i for i, text in enumerate(STEPS.splitlines(), 1) if "nothing" in text)
    assert f"steps.py:{line}: KeyError: 'nothing'" in said
    assert "has shape (3,)" in refused(capsys, "audit", f"{steps}:short", *loss)
    assert "cannot be written" in refused(capsys, "audit", step, *loss, "--report", steps.parent / "no" / "x.html")


def test_audit_names_the_line_of_a_loss_in_another_file(steps, capsys, tmp_path):
    other = tmp_path / "other.py"
    other.write_text("def loss(w, x, m):\n    return {}[0]\n")
    assert "other.py:2: KeyError: 0" in refused(capsys, "audit", f"{steps}:mean", "--loss", f"{other}:loss")


# -- what cannot be used ---------------------------------------------------------------------------------------


def test_errors_in_user_files_are_one_line(mine, capsys):
    for command in ("compare", "explain", "check"):
        assert refused(capsys, command, "nothing.py:loss") == "no file nothing.py"
        assert "expected FILE:FUNC, such as loss.py:loss" in refused(capsys, command, "mine.py")
        assert f"mine.py:{line_of('if x[0]')}: " in refused(capsys, command, f"{mine}:branches")
        said = refused(capsys, command, f"{mine}:typo")
        assert f"mine.py:{line_of('return np.sum(x).foo')}: a traced array (f64[]) has no attribute 'foo'." in said
        assert f"mine.py:{line_of('return y / {}')}: KeyError: 'nothing'" in refused(capsys, command, f"{mine}:fails")
    said = refused(capsys, "compare", f"{mine}:los")
    assert said.endswith("has no function 'los'; it has loss, branches, typo, fails, vector")
    assert "rng is a Generator, not a function" in refused(capsys, "compare", f"{mine}:rng")
    said = refused(capsys, "compare", f"{mine}:loss", "--params", "nope")
    assert "does not define 'nope', the params of loss" in said
    assert "--examples NAME" in refused(capsys, "compare", f"{mine}:loss", "--examples", "nope")
    assert "needs one floating number" in refused(capsys, "compare", f"{mine}:vector")
    assert "no backend 'gpu'" in refused(capsys, "compare", f"{mine}:loss", "--backend", "gpu")


def test_a_file_that_does_not_run(tmp_path, capsys):
    path = tmp_path / "bad.py"
    path.write_text("x = 1\ny = x / 0\n")
    assert refused(capsys, "compare", f"{path}:loss") == "bad.py:2: ZeroDivisionError: division by zero"
    path.write_text("def loss(:\n")
    assert refused(capsys, "compare", f"{path}:loss").startswith("bad.py:1: SyntaxError")
    with pytest.raises(SyntaxError):
        cli.main(["compare", f"{path}:loss", "--traceback"])
    assert "is not a Python file" in refused(capsys, "compare", f"{make_text(tmp_path)}:loss")


def test_a_file_that_ends_the_process(tmp_path, capsys):
    path = tmp_path / "ends.py"
    path.write_text("import sys, numpy as np\ndef loss(w, x):\n    sys.exit(0)\nparams, examples = 1.0, np.ones(2)\n")
    assert refused(capsys, "check", f"{path}:loss") == "ends.py:3: SystemExit: 0"
    path.write_text(path.read_text() + "sys.exit('done')\n")
    assert refused(capsys, "check", f"{path}:loss") == (
        'ends.py:5: SystemExit: done: the file ends the process when it is imported. Put that under '
        'if __name__ == "__main__":')


@pytest.mark.parametrize("command", [["explain"], ["check"], ["compare", "--no-report", "--repeats", "1"]])
def test_a_terminal_of_ascii_prints_everything_in_ascii(mine, command):
    done = subprocess.run([sys.executable, "-m", "minigrad", *command, "mine.py:loss"], cwd=mine.parent, timeout=300,
                          capture_output=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "LANG": "C"})
    assert done.returncode == 0, done.stderr
    text = (done.stdout + done.stderr).decode("ascii")
    assert "?" not in text
    assert command[0] != "explain" or "-- the program --" in text


def make_text(folder):
    path = folder / "notes.txt"
    path.write_text("hello")
    return path


def test_a_report_that_cannot_be_written(mine, capsys):
    assert cli.main(["compare", f"{mine}:loss", "--repeats", "1", "--report", str(mine.parent / "no" / "x.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_usage(capsys):
    for args in ([], ["compare", "--epochs", "none"], ["compare", "--repeats", "0"], ["nothing"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(args)
        assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"minigrad {minigrad.__version__}\n"


def test_a_reader_that_goes_away(mine):
    done = subprocess.run(f"{sys.executable} -m minigrad explain mine.py:loss | head -1", shell=True, cwd=mine.parent,
                          capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


# -- the cache of machine code -------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache of three files, and a file that is not the cache's."""
    where = tmp_path / "kept"
    where.mkdir()
    for k in range(3):
        (where / f"{k}.o").write_bytes(bytes(2**19))
    (where / "notes.txt").write_text("mine")
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(where))
    return where


def test_cache_tells_where_and_how_much(kept, capsys):
    assert cli.main(["cache"]) == 0
    first, *products = capsys.readouterr().out.splitlines()
    assert first == f"{kept}: 3 files, 1.5 MB of 256 MB at most"
    assert all("not measured" in line for line in products)


def test_cache_is_cleared_and_other_files_stay(kept, capsys):
    assert cli.main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == f"{kept}: 3 of 3 files removed (1.5 MB)\n"
    assert [path.name for path in kept.iterdir()] == ["notes.txt"]


def test_cache_is_filled_with_the_kernels_that_programs_share(tmp_path, capsys, monkeypatch):
    pytest.importorskip("llvmlite")
    from minigrad.backends.native.shared_kernels import requests

    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    for _ in range(2):
        assert cli.main(["cache", "--fill"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{tmp_path}: {len(requests())} shared kernels are there for ")
        assert "measured on" in out
    assert len(list(tmp_path.glob("*.o"))) == len(requests())
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "notes.txt"))
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.main(["cache", "--fill"]) == 1
    assert "nothing can be written" in capsys.readouterr().out


def test_cache_that_cannot_be_written(kept, capsys, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(kept / "notes.txt"))
    assert cli.main(["cache"]) == 0
    out = capsys.readouterr().out
    assert "0 files" in out
    assert "nothing can be written there" in out


def test_cache_that_is_switched_off(capsys, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "")
    assert cli.main(["cache"]) == 0
    assert "no machine code is kept" in capsys.readouterr().out


@pytest.mark.parametrize(("said", "n"), [([], 1), (["--threads", "2"], 2), (["--threads", "0"], 5)])
def test_threads_of_native_programs(mine, monkeypatch, said, n):
    """One, so that the ways differ in nothing but batching, unless the person says otherwise."""
    if said[1:] == ["2"]:
        pytest.importorskip("threadpoolctl")
    seen = []
    monkeypatch.setattr(cli, "_check", lambda args: seen.append(minigrad.get_num_threads()) or 0)
    before = minigrad.get_num_threads()
    try:
        minigrad.set_num_threads(5)
        assert cli.main(["check", f"{mine}:loss", *said]) == 0
        assert minigrad.get_num_threads() == 5
    finally:
        minigrad.set_num_threads(before)
    assert seen == [n]
