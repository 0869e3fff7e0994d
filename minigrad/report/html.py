"""The HTML page of a report of `compare`."""

from __future__ import annotations

import io
import keyword
import tokenize
from typing import TYPE_CHECKING

from ..draw.notebook import cell, framed, graph_text
from ..draw.svg import xml
from . import formatting
from .document import document, facts, figures, header, section, table
from .plot import Axis, Line, plot

if TYPE_CHECKING:
    from .report import Report
    from .training import Training

_COLOUR = {"loop": 0, "vmapped": 1, "giant": 1, "microbatched": 2, "padded": 2, "unrolled": 3, "stochastic": 0,
           "mini-batch": 1, "batch": 2}


def page(report: Report) -> str:
    """Return the HTML page of a `Report`."""
    sections = [_table(report), _curves(report), *([_training(report.training)] if report.training else []),
                _graphs(report), _program(report), _machine(report)]
    return document(report.title, _head(report), sections)


def notebook_cell(report: Report) -> str:
    """Return the tables of a `Report` for a notebook, with the page, folded, below."""
    sections = [(report.title, report.COLUMNS, [r.cells() for r in report.rows], report.notes)]
    if report.training:
        sections.append((report.training.title, report.training.COLUMNS, report.training.cells(), []))
    tables = "".join(
        f'<b>{xml(title)}</b><div style="overflow:auto">{table(columns, rows)}</div>'
        + "".join(f"<small>{xml(note)}</small><br>" for note in notes) for title, columns, rows, notes in sections)
    tables = tables.replace("<td>", '<td style="white-space:nowrap">')  # notebooks let cells wrap
    whole = f"<details><summary>curves, graphs and program</summary>{framed(page(report), report.title)}</details>"
    return tables + cell(whole)


def _head(report: Report) -> str:
    cards = []
    rows = {r.name: r for r in report.rows}
    if "vmapped" in rows or "giant" in rows:
        row = rows.get("vmapped") or rows["giant"]
        cards = [
            (f"{formatting.significant(row.speedup)} ×", "as fast as the loop", "the batched program, same examples"),
            (formatting.relative(row.difference), "from the loop’s gradient",
             f"relative; one round-off is {formatting.relative(report.roundoff)}"),
            (formatting.count(row.rate), "examples a second", f"the loop: {formatting.count(rows['loop'].rate)}"),
        ]
    if "microbatched" in rows and "vmapped" in rows and rows["microbatched"].peak_bytes:
        share = rows["microbatched"].peak_bytes / rows["vmapped"].peak_bytes
        cards.append((f"{share:.0%}", "of the batch’s memory", f"in chunks: {rows['microbatched'].note}"))
    on_gpu = rows.get("vmapped, cupy") or rows.get("giant, cupy")
    if on_gpu:
        cards.append((f"{formatting.significant(on_gpu.speedup)} ×", "the loop’s speed on the GPU",
                      f"{formatting.relative(on_gpu.difference)} from the host’s gradient"))
    if report.training:
        run = report.training["mini-batch"]
        cards.append((f"{run.accuracies[-1]:.1%}", "of unseen digits right",
                      f"mini-batches of {run.batch}, {report.training.epochs} epochs"))
    lead = (f"The mean loss of {max(r.examples for r in report.rows):,} examples and its gradient: example by example, "
            "as one literal graph, as a batch, and as a batch in chunks. All from the loss of <em>one</em> example.")
    return header("compare", report.name, lead, cards)


def _table(report: Report) -> str:
    best = max(range(len(report.rows)), key=lambda i: report.rows[i].rate)
    notes = "".join(f"<li>{xml(n)}</li>" for n in report.notes)
    return section("Loop, literal graph, batch, chunks", table(report.COLUMNS, [r.cells() for r in report.rows], best)
                    + f'<ul class="notes">{notes}</ul>')


def _curves(report: Report) -> str:
    batch = Axis("examples in the batch", lambda v: formatting.count(v, 2), log=True)

    def lines(quantity: str) -> list[Line]:
        return [Line(title, [(p.examples, getattr(p, quantity)) for p in points], _COLOUR[name], dashed=bool(backend))
                for title, points in report.curves.items() for name, _, backend in [title.partition(", ")]]

    times, held = lines("seconds"), lines("peak_bytes")
    plots = (plot("time of one mean gradient", times, batch, Axis("", lambda v: formatting.seconds(v, 2), log=True)),
             plot("peak memory of the call", held, batch, Axis("", lambda v: formatting.memory(v, 2), log=True)))
    return section("Time and memory against batch size", figures(plots))


def _training(training: Training) -> str:
    epoch = Axis("epochs", "{:g}".format)
    losses = [Line(r.name, list(enumerate(r.losses)), _COLOUR[r.name]) for r in training.runs]
    right = [Line(r.name, list(enumerate(r.accuracies)), _COLOUR[r.name]) for r in training.runs]
    plots = (plot("mean loss of the training examples", losses, epoch,
                  Axis("", lambda v: formatting.significant(v, 2), log=True)),
             plot("accuracy on the held-out examples", right, epoch, Axis("", lambda v: f"{v:.0%}")))
    best = max(range(len(training.runs)), key=lambda i: training.runs[i].accuracies[-1])
    lead = (f"The same network and the same {training.epochs} passes over {training.train:,} examples, cut into steps "
            "in three ways. One compiled program serves all three: it does not know the batch size.")
    return section("Batch, stochastic and mini-batch gradient descent",
                    figures(plots) + table(training.COLUMNS, training.cells(), best), xml(lead))


def _graphs(report: Report) -> str:
    """Return the drawings, one shown at a time, and each graph's page of text below it."""
    tabs, panels = [], []
    for i, (name, graph) in enumerate(report.graphs.items()):
        tabs.append(f'<input type="radio" name="graph" id="graph{i}"{" checked" if not i else ""}>'
                    f'<label for="graph{i}">{xml(name)}</label>')
        panels.append(f'<div class="panel"><div class="drawing" tabindex="0">{graph.to_svg()}</div>'
                      f"<details><summary>as text</summary><pre>{xml(graph_text(graph))}</pre></details></div>")
    choose = "".join(f"#graph{i}:checked~.panels>.panel:nth-child({i + 1}){{display:block}}"
                     for i in range(len(panels)))
    lead = ("What the loss of one example became. Colours say what is per example, shared, batched, and gradient; each "
            "box names the line of the code that it comes from.")
    return section("The graphs", f'<style>{choose}</style><div class="tabs">{"".join(tabs)}'
                    f'<div class="panels">{"".join(panels)}</div></div>', xml(lead))


def _program(report: Report) -> str:
    stages = "".join(f"<li><b>{xml(name)}</b> {xml(note)}</li>" for name, note in report.stages)
    return section("The program", f'<ol class="stages">{stages}</ol><pre>{_coloured(report.source)}</pre>',
                    "What runs for a batch of any size: straight-line NumPy. Its comments name the lines of your code.")


def _machine(report: Report) -> str:
    return section("Made with", facts(report.environment))


def _coloured(source: str) -> str:
    """Return Python source as HTML with its comments, keywords, strings and numbers marked."""
    kinds = {tokenize.COMMENT: "c", tokenize.STRING: "s", tokenize.NUMBER: "n"}
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    out, done = [], 0
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):  # another backend's language
        return xml(source)
    for token in tokens:
        kind = "k" if token.type == tokenize.NAME and keyword.iskeyword(token.string) else kinds.get(token.type)
        if kind:
            begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
            out += [xml(source[done:begin]), f'<i class="{kind}">{xml(source[begin:end])}</i>']
            done = end
    return "".join(out) + xml(source[done:])
