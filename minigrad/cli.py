"""The command line: ``minigrad`` with ``compare``, ``explain``, ``check``, ``audit``, ``explore`` or ``cache``.

Exit status: 0 for success, 1 for a failed check or a step that is not as expected, 2 for an unusable command or file.
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
from pathlib import Path
from typing import TextIO

import numpy as np
import optree

import minigrad as mg

from .auditing import demonstration
from .auditing.audit import audit
from .auditing.report import Audit
from .backends import AUTO, code_cache, get
from .backends.native.runtime.jit import available, host
from .draw import open_in_browser
from .errors import CheckError, MinigradError
from .explorer import seed
from .graph import Graph, InAxes, PyTree
from .progress import is_terminal
from .report import Report, digits
from .report.comparison import compare
from .report.training import METHODS, train
from .report.user_module import Sources, Target, TargetError, blame, load
from .report.variants import Data, example_data, progress_bar
from .transforms.static_arguments import bound_static

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
_STEP = """\
FILE:STEP names a training step in a Python file: STEP(params, *examples) returns a gradient in the structure of params,
as arrays of any library, or (value, gradient). The file is run; what stands below if __name__ == "__main__" is not. It
also defines the data, as values or as functions without arguments that return them:

  params    the first argument of STEP: an array, or a dict, list or tuple of arrays
  examples  a tuple of arrays, one for each further argument of STEP, with the examples along axis 0
  in_axes   optional: the batch axis of each argument, where it is not (None, 0, ..., 0)

Exit status: 0 if the gradient is the expected combination of the examples' gradients, 1 if it is not, 2 if the command
or a file is unusable.
"""
_ACCUMULATED = """\
Without FILE:STEP, the step averages the mean gradients of micro-batches of 32, 32, 32 and 4 of scikit-learn's
handwritten digits; the exit status is 0 if the audit finds that."""
_DIGITS = "Without FILE:FUNC, the loss is that of a small network on scikit-learn's handwritten digits."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help(sys.stderr)
        parser.exit(2)
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
        message = str(error) if isinstance(error, MinigradError) else _blamed(error, args) or (
            f"{type(error).__name__}: {error} (--traceback shows where)")
        hint = " On the command line that is --numpy-code." if "mg.numpy_code(f)" in message else ""
        print(f"minigrad: {message}{hint}", file=sys.stderr)
        return 2
    finally:
        if before is not None:  # restore the setting of the caller of `main`
            mg.full_tracebacks(before)


def _blamed(error: BaseException, args: argparse.Namespace) -> str | None:
    """Return the error with the line of the user's file that it comes from, or None."""
    targets = filter(None, (getattr(args, option, None) for option in ("target", "loss", "gradients")))
    found = (blame(error, target.rpartition(":")[0]) for target in targets)
    return next(filter(None, found), None)


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
        prog="minigrad", description="Write the loss of one example; see what its mini-batch is, and that it is right.",
        epilog="Begin with `minigrad explore`, which needs no file. `minigrad COMMAND --help` has the options.")
    parser.set_defaults(run=None)
    parser.add_argument("--version", action="version", version=f"minigrad {mg.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str,
                more: str = _DIGITS, convention: str = _CONVENTION, target: str = "FILE:FUNC",
                own: str = "your own loss of one example") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip(),
                                  epilog=convention, formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(run=run)
        sub.add_argument("target", nargs="?", metavar=target, help=own)
        sub.add_argument("--params", default="params", metavar="NAME", help="what FILE calls the parameters")
        sub.add_argument("--examples", default="examples", metavar="NAME", help="what FILE calls the examples")
        if more is _DIGITS:
            sub.add_argument("--seed", type=int, default=0, help="of the digits' split and weights")
        sub.add_argument("--threads", type=_count(0), metavar="N",
                         help="threads that a matrix product or a native program may take: 1, so that the ways differ "
                         "in nothing but batching; 0 leaves them as they are")
        sub.add_argument("--numpy-code", action="store_true", help="trace the NumPy code of the loss as it stands: "
                         "np.array([a, b]), assignment to elements, table[i], math.exp (mg.numpy_code)")
        sub.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
        return sub

    sub = command("compare", _compare, "the loop, the literal graph, the batch and the batch in chunks, side by side")
    sub.add_argument("--microbatch", type=_count(1), metavar="N", help="examples in a chunk (an eighth of the batch)")
    sub.add_argument("--repeats", type=_count(1), default=7, metavar="N", help="timed runs of each way (7)")
    sub.add_argument("--copies", type=_count(1), default=32, metavar="N", help="examples of the literal graph (32)")
    sub.add_argument("--epochs", type=_count(1), default=15, metavar="N", help="of the training on digits (15)")
    sub.add_argument("--backend", default=AUTO, help="what runs the programs (auto); cupy: "
                     "the GPU, in rows beside the host's")
    _report_options(sub, "minigrad-report.html")
    sub = command("explain", _explain, "the graphs of one example, of the batch and of its gradient, and the program")
    sub.add_argument("--svg", metavar="PREFIX", help="write drawings: PREFIX-example.svg, -batch.svg, -gradient.svg")
    sub = command("check", _check, "derivatives against finite differences, and the batch against the loop")
    sub.add_argument("--order", type=int, choices=(1, 2), default=2, help="of the derivatives (2)")
    sub = command("audit", _audit, "the weight of each example in the gradient that a training step returns",
                  _ACCUMULATED, _STEP, "FILE:STEP", "your own training step")
    sub.add_argument("--loss", metavar="FILE:FUNC", help="the loss of one example: FUNC(params, *example); FUNC alone "
                     "is in the file of STEP")
    sub.add_argument("--gradients", metavar="FILE:FUNC", help="in place of --loss: FUNC(params, *example) returns the "
                     "gradient of one example, from any library")
    sub.add_argument("--expected", default="mean", metavar="NAME", help="the right weights: mean (as it is without "
                     "this option), sum, 'mean over AXIS', or what FILE calls an array of them")
    sub.add_argument("--lengths", metavar="NAME", help="what FILE calls the rows of each example, such as "
                     '{"token": [5, 3]}')
    sub.add_argument("--per", metavar="AXIS", help="a weight for each row (token, node, edge): --loss then returns one "
                     "number per row")
    sub.add_argument("--reduction", choices=("sum", "mean"), default="sum", help="whether the loss of one example adds "
                     "up or averages the losses of its rows (sum)")
    _report_options(sub, "minigrad-audit.html")
    sub = command("explore", _explore, "a page on which the graph becomes the mini-batch, with the values of all nodes",
                  "Without FILE:FUNC, the program s = g(f(x, w), f(x, w), x).")
    sub.add_argument("--page", default="minigrad-explore.html", metavar="PATH",
                     help="where the page goes (minigrad-explore.html)")
    sub.add_argument("--no-browser", action="store_true", help="write the page, and open no browser")
    text = "the machine code kept on disk: where it is, how much it is"
    sub = commands.add_parser("cache", help=text, description=f"{text[0].upper()}{text[1:]}. MINIGRAD_CACHE_DIR says "
                              "where it is kept; set and empty, it says that none is.")
    sub.set_defaults(run=_cache, target=None, threads=0)
    do = sub.add_mutually_exclusive_group()
    do.add_argument("--clear", action="store_true", help="remove it")
    do.add_argument("--fill", action="store_true", help="compile the kernels that programs share (matrix products, "
                    "threads, scans), so that the first program compiles its own alone, and measure for which products "
                    "BLAS is faster")
    sub.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    return parser


def _report_options(parser: argparse.ArgumentParser, path: str) -> None:
    parser.add_argument("--report", default=path, metavar="PATH", help=f"where the page goes ({path})")
    parser.add_argument("--no-report", action="store_const", const=None, dest="report", help="write no page")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of a table")


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
        target = load(args.target, args.params, args.examples)
        return dataclasses.replace(target, loss=_code(target.loss, args))
    return Target(digits.loss, digits.init(args.seed), digits.load(args.seed).all)


def _with_data(args: argparse.Namespace) -> tuple[Callable[..., PyTree], Data, InAxes]:
    """Return the loss of one example, its arguments, and their axes; static arguments are bound to the loss."""
    target = _target(args)
    loss, (params, *more) = bound_static(target.loss, (target.params, *target.more))
    return loss, example_data(tuple(more), loss, params, target.axes), target.axes


def _code(loss: Callable[..., PyTree], args: argparse.Namespace) -> Callable[..., PyTree]:
    """Return the loss, as it is or as NumPy code."""
    return mg.numpy_code(loss) if args.numpy_code and not isinstance(loss, Graph) else loss


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
    _hand_out(report, args)
    return status


def _audit(args: argparse.Namespace) -> int:
    if not args.target:
        images, labels = (x[:demonstration.EXAMPLES] for x in digits.load().all)
        report = audit(demonstration.mean_of_means, digits.loss, digits.init(), (images, labels))
        _hand_out(report, args)
        return int(not report.microbatches)
    sources = Sources()
    target = sources.target(args.target, args.params, args.examples)
    loss, gradients = (sources.function(f, args.target) if f else None for f in (args.loss, args.gradients))
    if (loss is None) == (gradients is None):
        raise TargetError("audit needs --loss FILE:FUNC, the loss of one example, or --gradients FILE:FUNC, its "
                          "gradient: one of the two")
    named = args.expected in ("mean", "sum") or args.expected.startswith("mean ")
    expected = args.expected if named or not sources.has(args.target, args.expected) else np.asarray(
        sources.value(args.target, args.expected))
    loss = loss and _code(loss, args)
    report = audit(target.loss, loss, target.params, target.examples, in_axes=target.in_axes, gradients=gradients,
                   per=args.per, expected=expected, lengths=_lengths(sources, args), reduction=args.reduction)
    _hand_out(report, args)
    return int(not report.right)


def _lengths(sources: Sources, args: argparse.Namespace) -> dict[str, np.ndarray] | None:
    if args.lengths is None:
        return None
    if not sources.has(args.target, args.lengths):
        path = args.target.rpartition(":")[0]
        raise TargetError(f"{path} does not define {args.lengths!r}, the number of rows of each example")
    lengths = sources.value(args.target, args.lengths)
    if not isinstance(lengths, dict):
        raise TargetError(f"{args.lengths} is a {type(lengths).__name__}, not a dict of arrays such as "
                          '{"token": [5, 3]}')
    return lengths


def _hand_out(report: Report | Audit, args: argparse.Namespace) -> None:
    """Write the page of a report, and print it."""
    if args.report:
        try:
            path = report.to_html(args.report)
        except OSError as error:
            raise TargetError(f"the report cannot be written to {args.report}: {error.strerror}") from None
        print(f"report: {path}", file=sys.stderr)
    print(report.to_json()) if args.json else _show(report)


def _show(report: Report | Audit) -> None:
    """Print a report: with colours on a terminal, if rich is installed."""
    if not is_terminal(sys.stdout) or importlib.util.find_spec("rich") is None:
        print(report)
        return
    from rich.console import Console

    Console(highlight=False).print(report)


def _explain(args: argparse.Namespace) -> int:
    loss, data, axes = _with_data(args)
    mean = mg.mean_loss(loss, axes)
    step = mg.compile(mg.value_and_grad(mean))
    entry = step.build(*data.args)
    graphs = {"example": mg.trace(loss)(*data.take(0)), "batch": mg.trace(mean)(*data.args),
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
    target = _target(args) if args.target else Target(seed.s, seed.params, seed.examples)
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
    loss, data, axes = _with_data(args)
    some = data.first(_CHECKED)
    checks: dict[str, Callable[[], object]] = {
        "gradients": lambda: mg.check_grads(loss, data.take(0), order=args.order),
        "batching": lambda: mg.check_batching(loss, some, axes),
        "batching of the gradient": lambda: mg.check_batching(mg.grad(loss), some, axes)}
    status = 0
    for name, check in checks.items():
        try:
            print(f"ok      {name}: {check()}")
        except CheckError as error:
            print(f"FAILED  {name}: {error}")
            status = 1
    return status


def _fill(where: Path) -> int:
    get("native").check()
    from .backends.native.kernels import gemm_record
    from .backends.native.shared_kernels import fill

    kernels = fill()
    if reason := code_cache.unwritable(where):
        print(f"nothing can be written to {where} ({reason})")
        return 1
    print(f"{where}: {kernels} shared kernels are there for {host().cpu}", *gemm_record.described(), sep="\n")
    return 0


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
    if args.fill:
        return _fill(where)
    print(f"{where}: {len(entries)} files, {size} of {code_cache.BOUND // 2**20} MB at most")
    if available() is None:
        from .backends.native.kernels import gemm_record

        print(*gemm_record.described(), sep="\n")
    if reason := code_cache.unwritable(where):
        print(f"nothing can be written there ({reason}): programs are compiled anew in each process")
    return 0
