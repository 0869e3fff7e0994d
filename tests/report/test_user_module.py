"""The user's loss and data from a file."""

import pytest

from minigrad.report import user_module

FILE = """
def loss(w, x):
    return w * x

params = 2.0

def examples():
    return ([1.0, 2.0],)
"""


@pytest.fixture
def path(tmp_path):
    out = tmp_path / "mine.py"
    out.write_text(FILE)
    return out


def test_values_and_functions_of_the_file(path):
    target = user_module.load(f"{path}:loss")
    assert target.loss(3, 4) == 12
    assert target.params == 2.0
    assert target.examples == target.more == ([1.0, 2.0],)
    assert target.axes == (None, 0)


def test_axes_of_the_file(path):
    path.write_text(FILE + "in_axes = (None, 1)")
    assert user_module.load(f"{path}:loss").axes == (None, 1)


@pytest.mark.parametrize(("target", "words"), [
    ("{}", "expected FILE:FUNC, such as .*mine.py:loss; .*mine.py has loss"),
    ("{}:lost", "has no function 'lost'; it has loss"),
    ("{}:params", "params is a float, not a function"), ("{}.txt:loss", "no file")])
def test_missing_parts_are_named(path, target, words):
    with pytest.raises(user_module.TargetError, match=words):
        user_module.load(target.format(path))


def test_missing_data_is_named(path):
    with pytest.raises(user_module.TargetError, match=r"does not define 'weights', the params of loss.*--params NAME"):
        user_module.load(f"{path}:loss", params="weights")


def test_blame_names_the_line(path):
    path.write_text("x = 1\ny = 1 / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        user_module.load(f"{path}:loss")
    assert user_module.blame(caught.value, str(path)) == "mine.py:2: ZeroDivisionError: division by zero"
    assert user_module.blame(ValueError("elsewhere"), str(path)) is None


def test_files_run_once_for_several_functions(tmp_path):
    path, other = tmp_path / "mine.py", tmp_path / "other.py"
    path.write_text(FILE + f"with open({str(tmp_path / 'runs')!r}, 'a') as file:\n    file.write('x')\n")
    other.write_text("def loss(w, x):\n    return w + x\n")
    sources = user_module.Sources()
    assert sources.target(f"{path}:loss", "params", "examples").params == 2.0
    assert sources.function("loss", f"{path}:loss")(3, 4) == 12
    assert sources.function(f"{other}:loss", f"{path}:loss")(3, 4) == 7
    assert sources.has(f"{path}:loss", "examples")
    assert not sources.has(f"{path}:loss", "lengths")
    assert sources.value(f"{path}:loss", "examples") == ([1.0, 2.0],)
    assert (tmp_path / "runs").read_text() == "x"


def test_a_file_of_the_name_of_a_function_is_no_target(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.with_name("loss").write_text("numbers")
    sources = user_module.Sources()
    assert sources.function("loss", "mine.py:loss") is sources.function("mine.py:loss")
