"""The HTML page of an audit: weights, residual, readings, mixing examples, and the method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..draw.notebook import cell, framed
from ..draw.svg import xml
from ..report import formatting
from ..report.bars import MANY, Bar, Key, bars
from ..report.document import document, facts, figures, header, section, table
from ..report.gauge import gauge
from ..report.heat_map import heat_map
from ..report.plot import Axis, Line, plot
from .evidence import ranges
from .mixing import Mixing
from .weight_table import cleaned, columns, differing, multiples, table_rows, unknown

if TYPE_CHECKING:
    from .report import Audit

_COLUMNS = 240  # bars above which consecutive units share one
_COLOURS = 4  # of the micro-batches, in turn
_NAMED = 4  # micro-batches with an entry of their own in the legend
_LISTED = 24  # micro-batches of the table
_RIGHT, _WRONG = 1, 0  # colours


def page(report: Audit) -> str:
    """Return the HTML page of an `Audit`."""
    why = _readings(report) if report.mixing is None else _mixing(report, report.mixing)
    sections = [_weights(report), why, _method(report)]
    return document(f"audit of {report.name}", _head(report), sections)


def notebook_cell(report: Audit) -> str:
    """Return the verdict and the weights for a notebook, with the page, folded, below."""
    rows = table(columns(report), table_rows(report)).replace("<td>", '<td style="white-space:nowrap">')
    notes = "".join(f"<small>{xml(note)}</small><br>" for note in report.notes)
    whole = f"<details><summary>figures, readings and method</summary>{framed(page(report), report.name)}</details>"
    return f'<b>{xml(report.verdict)}</b><div style="overflow:auto">{rows}</div>{notes}{cell(whole)}'


def _head(report: Audit) -> str:
    first, _, rest = report.verdict.partition(". ")
    ratio = multiples(report)[~unknown(report)]
    ratio = ratio[np.isfinite(ratio)]
    count = len(report.weights)
    cards = []
    if len(ratio) and report.mixing is None:
        low, high = (f"{v:.3g}" for v in (ratio.min(), ratio.max()))
        cards.append((f"{low} ×" if low == high else f"{low} – {high} ×", "of the expected weight",
                      f"{int(differing(report).sum()):,} of {_number(count, report.unit)} differ"))
    fits = report.residual <= report.tolerance
    cards.append((formatting.relative(report.residual), "residual",
                  f"{'within' if fits else 'beyond'} round-off, {formatting.relative(report.tolerance)}"))
    if report.microbatches:
        sizes = [len(m) for m in report.microbatches]
        cards.append((f"{len(sizes):,}", "micro-batches", f"of {min(sizes)} to {max(sizes)} {report.unit}s"
                      if min(sizes) < max(sizes) else f"of {_number(sizes[0], report.unit)}"))
    if report.undetermined:
        cards.append((f"{int(unknown(report).sum()):,} of {count:,}", "weights undetermined",
                      f"in {_number(len(report.undetermined), 'set')} of {report.unit}s"))
    if report.mixing and report.mixing.groups:
        mixed = sum(map(len, report.mixing.groups))
        cards.append((f"{mixed} of {len(report.mixing.tried)}", "examples tried interact", "see the matrix"))
    cards.append((f"{report.condition:.2g}", "condition of the gradients",
                  "multiplies the round-off in the weights"))
    lead = xml(rest) + "<br>" * bool(rest) + (
        f"The weight of each {xml(report.unit)} in the gradient that <em>{xml(report.name)}</em> returns. Expected: "
        f"the {xml(report.goal)}.")
    return header("audit", first if first.endswith(".") else f"{first}.", lead, cards,
                  "right" if report.right else "wrong")


def _number(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"


# -- weights -----------------------------------------------------------------------------------------------


def _weights(report: Audit) -> str:
    values, each = _bars(report)
    relative = not np.isnan(multiples(report)).any()
    write = "{:g}".format
    axis = Axis(f"{report.unit}s, in order", "{:,.0f}".format)
    chart = bars(f"weight of {'each ' if each == 1 else 'the '}{report.unit}{'s' * (each != 1)}"
                 + (" as a multiple of the expected one" if relative else ""), values, axis,
                 Axis("", (lambda v: f"{write(v)} ×") if relative else write), _keys(report, values), "expected")
    lead = ("The height of a bar is the weight that the step gives to "
            + (f"one {report.unit}." if each == 1 else
               f"{each} consecutive {report.unit}s: their mean. The line in it runs from the lowest weight to the "
               f"highest. Single weights stand in the table below, and all of them in report.weights."))
    if report.mixing is not None:
        lead += " No combination of the gradients gives that of the step: these are the weights of the nearest one."
    if report.undetermined:
        lead += f" Hatched {report.unit}s could have other weights: these are the smallest that fit."
    if report.uncertainty.any() and report.mixing is None:
        lead += f" The weights are exact to ±{np.median(report.uncertainty):.1e} (median)."
    beside = [_residual(report), *_clipping(report)]
    broad = len(values) > MANY
    drawn = figures([chart], broad=True) + figures(beside) if broad else figures([chart, *beside])
    return section(f"The weight of each {report.unit}", drawn + table(columns(report), table_rows(report)), xml(lead))


def _bars(report: Audit) -> tuple[list[Bar], int]:
    """Return the bars, and the number of units that each but the last stands for."""
    weights, ratio, hidden = cleaned(report), multiples(report), unknown(report)
    relative = not np.isnan(ratio).any()
    heights, wanted = (ratio, np.ones(len(ratio))) if relative else (weights, report.expected)
    sign = " ×" if relative else ""
    colours = _colours(report)
    each = -(-len(weights) // _COLUMNS)
    spread = report.uncertainty / np.abs(report.expected) if relative else report.uncertainty
    out = []
    for start in range(0, len(weights), each):
        some = slice(start, min(start + each, len(weights)))
        height = heights[some]
        low, high = (float(height.min()), float(height.max())) if each > 1 or report.mixing is not None else (
            float(height[0] - spread[start]), float(height[0] + spread[start]))
        shown = set(colours[some])
        text = (f"{report.unit} {start}: {height[0]:.6g}{sign}, weight {weights[start]:.6g}" if each == 1 else
                f"{report.unit}s {start}–{some.stop - 1}: {height.mean():.6g}{sign}, from {low:.6g} to {high:.6g}")
        if hidden[some].any():
            text += ", not determined"
        out.append(Bar(start, some.stop, float(height.mean()), low, high, float(wanted[some].mean()), text,
                       shown.pop() if len(shown) == 1 else None, bool(hidden[some].any())))
    return out, each


def _colours(report: Audit) -> list[int | None]:
    """Return a colour for each unit: that of its micro-batch, or whether its weight is the expected one."""
    if report.microbatches:
        colours: list[int | None] = [None] * len(report.weights)
        for k, units in enumerate(report.microbatches):
            for u in units.tolist():
                colours[u] = (k + 1) % _COLOURS
        return colours
    if report.mixing is not None:
        return [None] * len(report.weights)
    hidden = unknown(report)
    return [None if h else _WRONG if d else _RIGHT for h, d in zip(hidden, differing(report), strict=True)]


def _keys(report: Audit, values: list[Bar]) -> list[Key]:
    shown = {b.colour for b in values if not b.hatched}
    keys = []
    if report.microbatches:
        for k, units in enumerate(report.microbatches[:_NAMED]):
            last = k == _NAMED - 1 and len(report.microbatches) > _NAMED
            keys.append(Key(f"micro-batch {k} ({_number(len(units), report.unit)})" + ", and so on in turn" * last,
                            (k + 1) % _COLOURS))
        if None in shown:
            keys.append(Key("several micro-batches, or none"))
    elif report.mixing is None:
        keys += [Key(name, colour) for name, colour in (
            ("as expected", _RIGHT), ("not as expected", _WRONG), ("both", None)) if colour in shown]
    else:
        keys.append(Key("nearest combination"))
    if any(b.hatched for b in values):
        keys.append(Key("not determined", None, hatched=True))
    return keys


def _residual(report: Audit) -> str:
    return gauge("residual, relative to the norm of the step’s gradient", report.residual,
                 report.tolerance, "round-off", "not a combination")


def _clipping(report: Audit) -> list[str]:
    """Return the weights against the norms of the gradients, where these are clipped one by one."""
    reading = next((r for r in report.readings if r.name == "clipped" and r.bound), None)
    if reading is None:
        return []
    weights = reading.weights / np.abs(reading.weights).max()
    order = np.argsort(report.norms)
    some = np.unique(np.linspace(0, len(order) - 1, min(len(order), _COLUMNS)).round().astype(int))
    points = [(float(report.norms[k]), float(weights[k])) for k in order[some]]
    return [plot(f"weight against the norm of the gradient: clipped at {reading.bound:.4g}",
                 [Line("weight, relative to the largest", points, 1)],
                 Axis("norm of the gradient", lambda v: formatting.significant(v, 2), log=True), Axis(""))]


# -- readings, mixing, method --------------------------------------------------------------------------------


def _readings(report: Audit) -> str:
    items = [f"<li><b>{xml(r.name)}</b>: {xml(r.text)}{'' if r.named else ' (the factor has no known cause)'}</li>"
             for r in report.readings]
    body = f'<ol class="stages">{"".join(items)}</ol>' if items else ""
    lead = ("This reading reproduces the step’s gradient to round-off, not its weights alone." if len(items) == 1 else
            "Each of these readings reproduces the step’s gradient to round-off; the audit cannot tell them apart."
            if items else "No known pattern reproduces the step’s gradient.")
    if report.microbatches:
        weights = cleaned(report)
        rows = [(str(k), f"{len(m):,}", ranges(m), f"{weights[m].mean():.6g}")
                for k, m in enumerate(report.microbatches[:_LISTED])]
        further = len(report.microbatches) - _LISTED
        if further > 0:
            rows.append((f"… {further} further", "…", "…", "…"))
        body += table(("micro-batch", f"{report.unit}s", "numbers", "weight of each"), rows)
    if report.undetermined:
        sets = "".join(f"<li>{xml(ranges(s))}</li>" for s in report.undetermined[:_LISTED])
        further = len(report.undetermined) - _LISTED
        sets += f"<li>… {further} further sets</li>" if further > 0 else ""
        body += (f'<p class="lead">Within each of these sets of {xml(report.unit)}s, other weights give the same '
                 f'gradient:</p><ul class="notes">{sets}</ul>')
    if report.extra:
        body += table(("further direction", "factor", "right factor"),
                      [(name, f"{v:.6g}", "1") for name, v in report.extra.items()])
    return section("What explains the weights", body, xml(lead))


def _mixing(report: Audit, mixing: Mixing) -> str:
    matrix = heat_map("interaction of two replaced examples", [str(k) for k in mixing.tried.tolist()],
                      100 * mixing.interactions, "{:.0f}".format,
                      "in hundredths of the larger change by one of the two")
    alone = "the step refuses it" if mixing.alone is None else f"{mixing.alone:.6f}"
    values = {
        "examples tried": f"{len(mixing.tried)} of {len(set(report.examples.tolist())):,}",
        "sets that interact": "; ".join(ranges(g) for g in mixing.groups) or "none",
        "change if the order is reversed": formatting.relative(mixing.order),
        "residual against the two halves of the batch": "the step refuses it" if mixing.split is None
        else formatting.relative(mixing.split),
        "cosine on a batch of one example": alone,
        "change by other numbers in the padding": "no padding" if mixing.padding is None
        else formatting.relative(mixing.padding),
        "cosine with the nearest combination": f"{mixing.cosine:.6f}"}
    lead = ("The step ran with one example replaced by another, and with two. Where examples do not mix, the change by "
            "two is the sum of the changes by each; a square shows how far it is not.")
    return section("Which examples mix", figures([matrix]) + facts(values), xml(lead))


def _method(report: Audit) -> str:
    rank = "not known" if report.rank is None else f"{report.rank:,} of {len(report.weights):,}"
    values = {
        "step": report.name, "units": _number(len(report.weights), report.unit), "expected": report.goal,
        "gradients": report.method, "values of the parameters": str(report.points), "independent gradients": rank,
        "condition": f"{report.condition:.3g}", "residual": formatting.relative(report.residual),
        "residual of round-off": formatting.relative(report.tolerance), "time": formatting.seconds(report.seconds)}
    lead = (f"The weights w solve G = Σ w g by least squares: g are the gradients of single {report.unit}s, G is what "
            "the step returns. A residual beyond round-off states that G is no combination of them. Weights of "
            "dependent gradients cannot be known from one gradient; the step then runs at further values of the "
            "parameters.")
    return section("Method", facts(values), xml(lead))
