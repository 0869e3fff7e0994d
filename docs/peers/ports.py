"""Run the programs of a peer, ``python docs/peers/ports.py jax|torch|pyg|autograd``, and store their results."""

import importlib.metadata
import json
import math
import runpy
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
RESULTS = Path(__file__).with_suffix(".json")
DISTRIBUTIONS = {"pyg": "torch_geometric"}


def check(name: str, value: float, tolerance: float = 1e-9) -> None:
    """Compare a number with the stored result of a peer's program, and print both."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))[name]
    print(f"{stored['library']} {stored['result']:.10g}\nminigrad {float(value):.10g}")
    assert math.isclose(value, stored["result"], rel_tol=tolerance), name


if __name__ == "__main__":
    (library,) = sys.argv[1:]
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    distribution = DISTRIBUTIONS.get(library, library)
    version = importlib.metadata.version(distribution).partition("+")[0]
    for path in sorted(PROGRAMS.glob(f"{library}_*.py")):
        result = float(runpy.run_path(str(path))["result"])
        results[path.stem] = {"library": f"{distribution} {version}", "result": result}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
