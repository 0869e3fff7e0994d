"""Answers of a library to questions of convention: ``python docs/peers/conventions.py jax|torch|numpy|minigrad``.

Each question is an expression per library. The answers of the peers are committed in ``conventions.json``; those of
NumPy and minigrad are computed when the page is built.
"""

import importlib.metadata
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).with_suffix(".json")

PREAMBLES = {
    "numpy": "import numpy as np",
    "minigrad": "import numpy as np, minigrad as mg, minigrad.numpy as mnp",
    "jax": "import numpy as np, jax, jax.numpy as jnp",
    "torch": "import numpy as np, torch\n"
             "def grad(f, x):\n"
             "    x = torch.tensor(x, requires_grad=True)\n"
             "    f(x).backward()\n"
             "    return x.grad"}

QUESTIONS: dict[str, dict[str, str]] = {
    "dtype of an array of Python floats": {
        "numpy": "np.array([0.5]).dtype", "minigrad": "mnp.array([0.5]).dtype",
        "jax": "jnp.array([0.5]).dtype", "torch": "torch.tensor([0.5]).dtype"},
    "dtype of float32 + a Python float": {
        "numpy": "(np.float32(1) + 0.1).dtype", "minigrad": "mg.trace(lambda x: x + 0.1)(mg.f32[()]).outputs[0].dtype",
        "jax": "(jnp.float32(1) + 0.1).dtype", "torch": "(torch.tensor(1.0) + 0.1).dtype"},
    "dtype of int64 / int64": {
        "numpy": "(np.int64(1) / np.int64(2)).dtype",
        "minigrad": "mg.trace(lambda x: x / x)(mg.i64[()]).outputs[0].dtype",
        "jax": "(jnp.array(1) / jnp.array(2)).dtype", "torch": "(torch.tensor(1) / torch.tensor(2)).dtype"},
    "standard deviation of [0, 2]": {
        "numpy": "np.std(np.array([0.0, 2.0]))", "minigrad": "mg.compile(lambda x: np.std(x))(np.array([0.0, 2.0]))",
        "jax": "jnp.std(jnp.array([0.0, 2.0]))", "torch": "torch.std(torch.tensor([0.0, 2.0]))"},
    "x[7] of 3 elements": {
        "numpy": "np.arange(3.0)[np.array(7)]",
        "minigrad": "mg.compile(lambda x, i: x[i])(np.arange(3.0), np.array(7))",
        "jax": "jax.jit(lambda x, i: x[i])(jnp.arange(3.0), jnp.array(7))",
        "torch": "torch.arange(3.0)[torch.tensor(7)]"},
    "x[0] = 1": {
        "numpy": "np.zeros(3).__setitem__(0, 1.0)", "minigrad": "mg.grad(lambda x: x.__setitem__(0, 1.0))(np.zeros(3))",
        "jax": "jnp.zeros(3).__setitem__(0, 1.0)", "torch": "torch.zeros(3).__setitem__(0, 1.0)"},
    "slope of abs at 0": {
        "minigrad": "mg.grad(np.abs)(0.0)", "jax": "jax.grad(jnp.abs)(0.0)", "torch": "grad(torch.abs, 0.0)"},
    "slopes of max([1, 1])": {
        "minigrad": "mg.grad(np.max)(np.ones(2))", "jax": "jax.grad(jnp.max)(jnp.ones(2))",
        "torch": "grad(torch.max, [1.0, 1.0])"},
    "slope of maximum(x, 0) at 0": {
        "minigrad": "mg.grad(lambda x: np.maximum(x, 0.0))(0.0)",
        "jax": "jax.grad(lambda x: jnp.maximum(x, 0.0))(0.0)",
        "torch": "grad(lambda x: torch.maximum(x, torch.tensor(0.0)), 0.0)"},
    "slope of relu at 0": {
        "minigrad": "mg.grad(lambda x: np.where(x > 0, x, 0.0))(0.0)",
        "jax": "jax.grad(jax.nn.relu)(0.0)", "torch": "grad(torch.relu, 0.0)"},
    "slopes of the norm at [0, 0]": {
        "minigrad": "mg.grad(np.linalg.norm)(np.zeros(2))", "jax": "jax.grad(jnp.linalg.norm)(jnp.zeros(2))",
        "torch": "grad(torch.linalg.norm, [0.0, 0.0])"},
    "slope of where(x > 0, sqrt(x), 0) at 0": {
        "minigrad": "mg.grad(lambda x: np.where(x > 0, np.sqrt(x), 0.0))(0.0)",
        "jax": "jax.grad(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0))(0.0)",
        "torch": "grad(lambda x: torch.where(x > 0, torch.sqrt(x), torch.tensor(0.0)), 0.0)"},
    "gradient of a value that does not depend on x": {
        "minigrad": "mg.grad(lambda x, y: y * 1.0, argnums=0)(1.0, 2.0)",
        "jax": "jax.grad(lambda x, y: y * 1.0, argnums=0)(1.0, 2.0)",
        "torch": "grad(lambda x: torch.tensor(2.0, requires_grad=True) * 1.0, 1.0)"},
}


def answer(library: str, expression: str, namespace: dict[str, object]) -> str:
    """Return the value of an expression as text, or the type of its error."""
    try:
        value = eval(expression, namespace)
    except Exception as error:
        return type(error).__name__
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        value = round(value, 4)
    return "changes x" if value is None and "__setitem__" in expression else str(value).removeprefix("torch.")


def answers(library: str) -> dict[str, str]:
    """Return the answers of a library to all questions that it has an expression for."""
    namespace: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(PREAMBLES[library], namespace)
        return {question: answer(library, ways[library], namespace)
                for question, ways in QUESTIONS.items() if library in ways}


def table(columns: dict[str, Callable[[], dict[str, str]]]) -> str:
    """Return the table of answers, one column for each library, as Markdown."""
    filled = {name: column() for name, column in columns.items()}
    lines = ["| | " + " | ".join(filled) + " |", "|---" * (len(filled) + 1) + "|"]
    lines += [f"| {question} | " + " | ".join(column.get(question, "–") for column in filled.values()) + " |"
              for question in QUESTIONS]
    return "\n".join(lines)


if __name__ == "__main__":
    (name,) = sys.argv[1:]
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[name] = {"version": importlib.metadata.version(name), "answers": answers(name)}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
