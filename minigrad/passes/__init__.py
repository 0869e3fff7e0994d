"""The passes, Graph -> Graph, in their order."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..errors import MinigradError, at_user_line
from ..graph import Graph, Node
from ..ops.effects import order_effects
from ..ops.results import checks_as_results
from .dead_code import dead_code
from .factorize import factorize
from .fuse_chunk_loops import fuse_chunk_loops
from .fuse_gather_sum import fuse_gather_sum
from .hoist_scan import hoist_scan
from .keep_index_checks import results_after_checks, with_all_check_results
from .lower_einsum import lower_einsum
from .record import Stage
from .shrink_scan import shrink_scan
from .simplify import simplify
from .split_sums import split_sums
from .sum_after_scan import sum_after_scan

PASSES = (("dead_code", dead_code), ("simplify", simplify), ("fuse_chunk_loops", fuse_chunk_loops),
          ("hoist_scan", hoist_scan), ("sum_after_scan", sum_after_scan), ("shrink_scan", shrink_scan),
          ("split_sums", split_sums), ("factorize", factorize), ("tidy", simplify),
          ("fuse_gather_sum", fuse_gather_sum), ("lower_einsum", lower_einsum))
RENAMED = {"prune": "dead_code", "merge": "fuse_chunk_loops", "scans": "hoist_scan, sum_after_scan, shrink_scan",
           "segments": "split_sums", "contract": "factorize", "rows": "fuse_gather_sum", "lower": "lower_einsum"}


def check_names(without: Collection[str]) -> None:
    """Raise `MinigradError` unless all of `without` are names of passes."""
    known = [name for name, _ in PASSES]
    if unknown := sorted(set(without).difference(known)):
        names = ", ".join(f"{name} (now {RENAMED[name]})" if name in RENAMED else name for name in unknown)
        raise MinigradError(at_user_line(f"no pass {names}; there are {', '.join(known)}"))


def run(graph: Graph, without: Collection[str] = ()) -> tuple[Graph, list[Stage]]:
    """Run all Graph -> Graph passes.

    Parameters
    ----------
    graph : Graph
    without : collection of str
        Names of passes to leave out.

    Returns
    -------
    graph : Graph
        Same inputs, equal outputs.
    stages : list of Stage
        One per pass that changed the graph or added a note, with the graph before and after.
    """
    stages = []
    settled: dict[Callable[[Graph], Graph], tuple[Node, ...]] = {}  # the latest results of each pass
    count = len(graph.outputs)
    graph, changed = checks_as_results(graph), True
    for name, apply in PASSES:
        if name in without:
            continue
        if changed:
            graph, changed = with_all_check_results(graph, count), False
        if settled.get(apply) == graph.outputs:
            continue
        after = apply(graph)
        settled[apply] = after.outputs
        if after.outputs == graph.outputs and after.notes == graph.notes:
            continue
        old, new = (_without_checks(g, count) for g in (graph, after))
        notes = after.notes[len(graph.notes):] or (f"{old.count()} nodes became {new.count()}",)
        stages.append(Stage(name, old, new, "; ".join(notes)))
        graph, changed = after, after.outputs != graph.outputs
    return order_effects(results_after_checks(graph, count)), stages


def _without_checks(graph: Graph, count: int) -> Graph:
    """Return the graph without the checks after its first `count` results."""
    return graph if len(graph.outputs) == count else graph.replace(
        outputs=graph.outputs[:count], out_names=graph.out_names[:count])


def optimize(graph: Graph, without: Collection[str] = ()) -> Graph:
    """Return the graph after all passes except those in `without`."""
    check_names(without)
    return run(graph, without)[0]
