"""The environment of a report: versions, processor, threads."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys

import numpy as np

from ..locks import importing


def environment() -> dict[str, str]:
    """Return versions and the machine, as text."""
    build = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    blas = " ".join(str(build[k]) for k in ("name", "version") if build.get(k))
    own = sys.modules[__package__.partition(".")[0]].__version__
    return {"minigrad": own, "Python": platform.python_version(), "NumPy": np.__version__,
            "BLAS": blas or "unknown", "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(), "CPUs": str(_cpus()), "BLAS threads": _blas_threads()}


def _blas_threads() -> str:
    """Return the number of threads of matrix products, if threadpoolctl is installed."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return "as set"
    with importing:
        import threadpoolctl

    pools = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
    own = [p for p in pools if "numpy" in p["filepath"]] or pools  # other packages may contain a BLAS, too
    counts = {p["num_threads"] for p in own}
    return ", ".join(map(str, sorted(counts))) or "as set"


def _cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Return the name of the processor, if the system knows it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # only Linux has this file
    return platform.processor() or platform.machine()
