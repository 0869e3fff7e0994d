"""The command line: ``minigrad`` with ``compare``, ``explain``, ``check``, ``explore`` or ``cache``.

Exit status: 0 for success, 1 for a failed check, 2 for an unusable command or user's file.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import dataclasses
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import numpy as np
import optree

import minigrad as mg

from .backends import AUTO, code_cache
from .draw import open_in_browser
from .errors import CheckError, MinigradError
from .explorer import seed
from .graph import Graph, PyTree
from .report import Report, digits
from .report.comparison import compare
from .report.training import METHODS, train
from .report.user_module import Target, TargetError, blame, load
from .report.variants import Data, progress_bar

ENOUGH = 0.95  # accuracy on held-out digits that the mini-batch run must exceed
_CHECKED = 4  # examples of `check`

_CONVENTION = """\
FILE:FUNC names the loss of one example in a Python file: FUNC(params, *example) returns one floating number. The file
is run; what stands below if __name__ == "__main__" is not. It also defines the data,
as values or as functions without arguments that return them:

  params    the first argument of FUNC: an array, or a dict, list or tuple of arrays; the gradient is taken by it
  examples  a tuple of arrays, one for each further argument of FUNC, with the examples along axis 0
  in_axes   optional: the batch axis of each argument, where it is not (None, 0, ..., 0)
"""
_DIGITS = "Without FILE:FUNC, the loss is that of a small network on scikit-learn's handwritten digits."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = _parser().parse_args(argv)
    before = mg.full_tracebacks() if args.traceback else None
    for stream in (sys.stdout, sys.stderr):
        _spell(stream)
    try:
        with _threads(args.threads):
            status: int = args.run(args)
            return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output is gone: redirect what Python writes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, SystemExit) as error:
        if args.traceback:
            raise
        path = (args.target or "").rpartition(":")[0]
        message = str(error) if isinstance(error, MinigradError) else blame(error, path) or (
            f"{type(error).__name__}: {error} (--traceback shows where)")
        print(f"minigrad: {message}", file=sys.stderr)
        return 2
    finally:
        if before is not None:  # restore the setting of the caller of `main`
            mg.full_tracebacks(before)


_ASCII = {"─": "-", "–": "-", "−": "-", "·": ".", "…": "...", "×": "x", "÷": "/", "→": "->", "≥": ">=", "≤": "<=",
          "≠": "!=", "Σ": "sum ", "²": "^2", "³": "^3", "ᵀ": "^T", "µ": "u", "’": "'", "∧": "and", "∨": "or",
          "⊻": "xor", "□": "_"}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(c, "?") for c in error.object[error.start:error.end]), error.end


def _spell(stream: TextIO) -> None:
    """Make a stream print characters that its encoding lacks in ASCII."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        codecs.register_error("minigrad.ascii", _in_ascii)
        stream.reconfigure(errors="minigrad.ascii")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minigrad", description="Write the loss of one example; see what its mini-batch is, and that it is right.")
    parser.add_argument("--version", action="version", version=f"minigrad {mg.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str,
                more: str = _DIGITS) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip(),
                                  epilog=_CONVENTION, formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(run=run)
        sub.add_argument("target", nargs="?", metavar="FILE:FUNC", help="your own loss of one example")
        sub.add_argument("--params", default="params", metavar="NAME", help="what FILE calls the parameters")
        sub.add_argument("--examples", default="examples", metavar="NAME", help="what FILE calls the examples")
        if more is _DIGITS:
            sub.add_argument("--seed", type=int, default=0, help="of the digits' split and weights")
        sub.add_argument("--threads", type=_count(0), metavar="N",
                         help="threads that a matrix product or a native program may take: 1, so that the ways differ "
                         "in nothing but batching; 0 leaves them as they are")
        sub.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
        return sub

    sub = command("compare", _compare, "the loop, the literal graph, the batch and the batch in chunks, side by side")
    sub.add_argument("--microbatch", type=_count(1), metavar="N", help="examples in a chunk (an eighth of the batch)")
    sub.add_argument("--repeats", type=_count(1), default=7, metavar="N", help="timed runs of each way (7)")
    sub.add_argument("--copies", type=_count(1), default=32, metavar="N", help="examples of the literal graph (32)")
    sub.add_argument("--epochs", type=_count(1), default=15, metavar="N", help="of the training on digits (15)")
    sub.add_argument("--backend", default=AUTO, help="what runs the programs (auto); cupy: "
                     "the GPU, in rows beside the host's")
    sub.add_argument("--report", default="minigrad-report.html", metavar="PATH",
                     help="where the page goes (minigrad-report.html)")
    sub.add_argument("--no-report", action="store_const", const=None, dest="report", help="write no page")
    sub.add_argument("--json", action="store_true", help="print the numbers as JSON instead of a table")
    sub = command("explain", _explain, "the graphs of one example, of the batch and of its gradient, and the program")
    sub.add_argument("--svg", metavar="PREFIX", help="write drawings: PREFIX-example.svg, -batch.svg, -gradient.svg")
    sub = command("check", _check, "derivatives against finite differences, and the batch against the loop")
    sub.add_argument("--order", type=int, choices=(1, 2), default=2, help="of the derivatives (2)")
    sub = command("explore", _explore, "a page on which the graph becomes the mini-batch, with the values of all nodes",
                  "Without FILE:FUNC, the program s = g(f(x, w), f(x, w), x).")
    sub.add_argument("--page", default="minigrad-explore.html", metavar="PATH",
                     help="where the page goes (minigrad-explore.html)")
    sub.add_argument("--no-browser", action="store_true", help="write the page, and open no browser")
    text = "the machine code kept on disk: where it is, how much it is"
    sub = commands.add_parser("cache", help=text, description=f"{text[0].upper()}{text[1:]}. MINIGRAD_CACHE_DIR says "
                              "where it is kept; set and empty, it says that none is.")
    sub.set_defaults(run=_cache, target=None, threads=0)
    sub.add_argument("--clear", action="store_true", help="remove it")
    sub.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    return parser


def _count(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Limit the threads of native programs and of matrix products; 0 leaves them as they are."""
    before = mg.get_num_threads()
    if count != 0:
        mg.set_num_threads(count or 1)
    try:
        with _product_threads(count):
            yield
    finally:
        mg.set_num_threads(before)


@contextlib.contextmanager
def _product_threads(count: int | None) -> Iterator[None]:
    """Limit the threads of matrix products, if threadpoolctl is installed (scikit-learn depends on it)."""
    if importlib.util.find_spec("threadpoolctl") is None:
        if count:
            raise TargetError("--threads needs threadpoolctl: pip install threadpoolctl")
        yield
    elif count == 0:
        yield
    else:
        import threadpoolctl

        with threadpoolctl.threadpool_limits(count or 1, user_api="blas"):
            yield


def _target(args: argparse.Namespace) -> Target:
    if args.target:
        return load(args.target, args.params, args.examples)
    return Target(digits.loss, digits.init(args.seed), digits.load(args.seed).all)


# -- commands ----------------------------------------------------------------------------------------------


def _compare(args: argparse.Namespace) -> int:
    target = _target(args)
    report = compare(target.loss, target.params, target.examples, in_axes=target.in_axes, microbatch=args.microbatch,
                     repeats=args.repeats, copies=args.copies, backend=args.backend)
    status = 0
    if not args.target:
        with progress_bar(True, "training", len(METHODS) * args.epochs) as advance:
            training = train(digits.loss, digits.scores, target.params, digits.load(args.seed), args.epochs, args.seed,
                             advance)
        report = dataclasses.replace(report, training=training)
        accuracy = training["mini-batch"].accuracies[-1]
        if accuracy <= ENOUGH:
            print(f"minigrad: mini-batch gradient descent got {accuracy:.1%} of the held-out digits right, which is "
                  f"not more than {ENOUGH:.0%}", file=sys.stderr)
            status = 1
    if args.report:
        try:
            path = report.to_html(args.report)
        except OSError as error:
            raise TargetError(f"the report cannot be written to {args.report}: {error.strerror}") from None
        print(f"report: {path}", file=sys.stderr)
    print(report.to_json()) if args.json else _show(report)
    return status


def _show(report: Report) -> None:
    """Print a report: with colours on a terminal, if rich is installed."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        print(report)
        return
    from rich.console import Console

    Console(highlight=False).print(report)


def _explain(args: argparse.Namespace) -> int:
    target = _target(args)
    data = Data(target.loss, (target.params, *target.more), target.axes)
    mean = mg.mean_loss(target.loss, target.axes)
    step = mg.compile(mg.value_and_grad(mean))
    entry = step.build(*data.args)
    graphs = {"example": mg.trace(target.loss)(*data.each[0]), "batch": mg.trace(mean)(*data.args),
              "gradient": entry.graph}
    titles = {"example": "one example", "batch": "the batch: one example's graph under vmap, and a mean",
              "gradient": "value and gradient of the batch"}
    for name, graph in graphs.items():
        _heading(titles[name])
        print(graph)
    _heading("what was done to it")
    for stage in entry.stages:
        count = f" ({stage.after.count()} nodes)" if isinstance(stage.after, Graph) else ""
        print(f"  {stage.name}: {stage.note}{count}")
    _heading("the program")
    print(step.source)
    for name, graph in graphs.items() if args.svg else ():
        try:
            print(f"drawing: {graph.show(f'{args.svg}-{name}.svg')}", file=sys.stderr)
        except OSError as error:
            raise TargetError(f"{args.svg}-{name}.svg cannot be written: {error.strerror}") from None
    return 0


def _explore(args: argparse.Namespace) -> int:
    if args.target:
        target = load(args.target, args.params, args.examples)
    else:
        target = Target(seed.s, seed.params, seed.examples)
    values = (target.params, *target.more)
    if isinstance(target.loss, Graph) and _fits(target.loss, values):
        page = target.loss.explore(*values)
    else:
        page = mg.explore(target.loss, target.params, target.examples, target.in_axes)
    try:
        path = page.save(args.page)
    except OSError as error:
        raise TargetError(f"the page cannot be written to {args.page}: {error.strerror}") from None
    print(f"page: {path}")
    if not args.no_browser:
        open_in_browser(os.path.abspath(path))
    return 0


def _fits(graph: Graph, values: PyTree) -> bool:
    """Return whether a graph takes whole values, rather than those of one example."""
    return [n.ndim for n in graph.inputs] == [np.ndim(x) for x in optree.tree_leaves(values)]


def _heading(text: str) -> None:
    print(f"\n── {text} {'─' * max(3, 90 - len(text))}\n")


def _check(args: argparse.Namespace) -> int:
    target = _target(args)
    data = Data(target.loss, (target.params, *target.more), target.axes)
    some = data.first(_CHECKED)
    checks: dict[str, Callable[[], object]] = {
        "gradients": lambda: mg.check_grads(target.loss, data.each[0], order=args.order),
        "batching": lambda: mg.check_batching(target.loss, some, target.axes),
        "batching of the gradient": lambda: mg.check_batching(mg.grad(target.loss), some, target.axes)}
    status = 0
    for name, check in checks.items():
        try:
            print(f"ok      {name}: {check()}")
        except CheckError as error:
            print(f"FAILED  {name}: {error}")
            status = 1
    return status


def _cache(args: argparse.Namespace) -> int:
    where = code_cache.directory()
    if where is None:
        print("no machine code is kept: MINIGRAD_CACHE_DIR is empty, or there is no home directory")
        return 0
    entries = code_cache.entries(where)
    size = f"{sum(e.size for e in entries) / 2**20:.1f} MB"
    if args.clear:
        removed = code_cache.clear(where)
        print(f"{where}: {removed} of {len(entries)} files removed ({size})")
        return int(removed < len(entries))
    print(f"{where}: {len(entries)} files, {size} of {code_cache.BOUND // 2**20} MB at most")
    if reason := code_cache.unwritable(where):
        print(f"nothing can be written there ({reason}): programs are compiled anew in each process")
    return 0
