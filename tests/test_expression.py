"""The running expression of the user's code."""

import ast
import linecache
import sys

import numpy as np

from minigrad import expression


def parsed(text):
    return ast.parse(text, mode="eval").body


def test_the_path_leads_from_the_call_to_the_module():
    frame, path = expression.running()
    assert frame is sys._getframe()
    assert [type(n).__name__ for n in path] == ["Call", "Assign", "FunctionDef", "Module"]
    assert expression.text(path[0]) == "expression.running()"
    assert path[2].name == "test_the_path_leads_from_the_call_to_the_module"
    assert expression.calls(frame, path) is expression.running


def test_the_path_tells_statements_from_operators():
    while (whole := expression.running()[1]) and (part := expression.running()[1]):
        break
    assert [type(n).__name__ for n in whole[:5]] == ["Call", "Subscript", "NamedExpr", "BoolOp", "While"]
    assert [type(n) for n in part[:4]] == [type(n) for n in whole[:4]]
    assert (whole[2].target.id, part[2].target.id) == ("whole", "part")


def with_call_of(f):
    return lambda g: (f(), g)


def test_the_path_reaches_into_decorators():
    @with_call_of(lambda: expression.running()[1])
    def decorated():
        return 1

    path, _ = decorated
    assert [type(n).__name__ for n in path[:4]] == ["Call", "Subscript", "Lambda", "Call"]


def test_text_without_a_file_has_no_path():
    scope = {"expression": expression}
    exec("result = expression.running()", scope)
    frame, path = scope["result"]
    assert frame.f_globals is scope
    assert path == []
    assert expression.calls(frame, path) is None
    assert expression.calls(None, []) is None


def test_text_that_is_not_python_has_no_path():
    lines = ["result = expression.running()\n", "%magic of a notebook\n"]
    linecache.cache["<cell>"] = sum(map(len, lines)), None, lines, "<cell>"
    scope = {"expression": expression}
    exec(compile(lines[0], "<cell>", "exec"), scope)
    del linecache.cache["<cell>"]
    assert scope["result"][1] == []


def test_values_of_names():
    local = np.ones(3)
    frame = sys._getframe()
    assert expression.value(frame, parsed("local")) is local
    assert expression.value(frame, parsed("np")) is np
    assert expression.value(frame, parsed("len")) is len
    assert expression.value(frame, parsed("np.linalg.norm")) is np.linalg.norm
    assert expression.value(frame, parsed("np.add.reduce")) == np.add.reduce
    for other in ("unknown", "np.unknown", "local.real", "local[0]", "len(local)", "1 + 2"):
        assert expression.value(frame, parsed(other)) is None, other


def test_text_is_one_short_line():
    assert expression.text(parsed("f(x,\n  y)")) == "f(x, y)"
    long = expression.text(parsed("f(" + ", ".join(f"argument_{k}" for k in range(20)) + ")"))
    assert len(long) == 60
    assert long.endswith("...")
