"""Run the benchmarks, each in a process of its own: ``python -m benchmarks [NAME ...] [--quick]``."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from .harness import cores

NAMES = ("loop_vs_vmap", "mlp", "elementwise", "startup", "overhead", "memory", "per_example", "algebra", "accuracy",
         "gemm", "blas_choice", "pause", "peers.elementwise", "peers.mlp", "peers.narrow", "peers.attention",
         "peers.rnn", "peers.logistic", "peers.mixture", "peers.gaussian_process", "peers.norms", "peers.epoch",
         "peers.cold", "graphs", "dynamic", "sequences", "sentences", "trees", "audit", "distributed", "compile_time",
         "compile_curves", "scale", "cores", "typical.race", "book.when_it_pays", "book.optimizer_steps",
         "book.threads", "explorer")
ON_REQUEST = ("gpu",)  # what not every machine can run


def main() -> int:
    """Run the named benchmarks; return how many broke down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=f"of {', '.join(NAMES + ON_REQUEST)}; all but the last without one")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no files written")
    args = parser.parse_args()
    if unknown := set(args.names) - {*NAMES, *ON_REQUEST}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES + ON_REQUEST)}")
    n = str(cores())
    environment = {**os.environ, "OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n, "MKL_NUM_THREADS": n,
                   "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a process starts as it does where the package is installed
    broken = 0
    for name in args.names or NAMES:
        start = time.perf_counter()
        if name in ON_REQUEST:
            environment.pop("JAX_PLATFORMS")
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if args.quick else [])]
        broken += subprocess.run(command, cwd=Path(__file__).parents[1], env=environment).returncode != 0
        print(f"   ({time.perf_counter() - start:.0f} s)\n", flush=True)
    return broken


if __name__ == "__main__":
    sys.exit(main())
