"""Self-contained HTML pages: the frame, sections and tables. They load nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from ..draw.svg import xml


def document(title: str, head: str, sections: Sequence[str]) -> str:
    """Return a whole page from its title (text), its head and its sections (HTML)."""
    style = (files(__package__) / "assets" / "report.css").read_text(encoding="utf-8").strip()
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>minigrad · {xml(title)}</title>"
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
            f"<style>{style}</style></head>\n<body><main>\n{head}\n{chr(10).join(sections)}\n"
            "</main></body></html>\n")


def header(command: str, heading: str, lead: str, cards: Sequence[tuple[str, str, str]], kind: str = "") -> str:
    """Return the head of a page: a heading (text), a lead (HTML), and cards of a number, its name and a note (text).

    A heading of the `kind` ``right`` or ``wrong`` is a sentence, in a colour of its own.
    """
    opened = f'<h1 class="{kind}">' if kind else "<h1>"
    items = "".join(f"<li><b>{xml(a)}</b><span>{xml(b)}</span><small>{xml(c)}</small></li>" for a, b, c in cards)
    return (f'<header><p class="brand">minigrad {xml(command)}</p>{opened}{xml(heading)}</h1>'
            f'<p class="lead">{lead}</p><ul class="cards">{items}</ul></header>')


def section(title: str, body: str, lead: str = "") -> str:
    """Return a section with a title (text), a lead and a body (HTML)."""
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{name}"><h2>{xml(title)}</h2>{lead}{body}</section>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], marked: int | None = None) -> str:
    """Return a table of text, with one row marked."""
    head = "".join(f"<th>{xml(c)}</th>" for c in columns)
    body = "".join(f'<tr{" class=best" if i == marked else ""}>' + "".join(
        f"<th scope=row>{xml(c)}</th>" if not k else f"<td>{xml(c)}</td>" for k, c in enumerate(row)) + "</tr>"
        for i, row in enumerate(rows))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figures(drawings: Sequence[str], broad: bool = False) -> str:
    """Return drawings side by side, or in a column on narrow pages; `broad` ones over the whole width."""
    opened = '<figure class="broad" tabindex="0">' if broad else "<figure>"
    return '<div class="figures">' + "".join(f"{opened}{d}</figure>" for d in drawings) + "</div>"


def facts(values: Mapping[str, str]) -> str:
    """Return names with their values."""
    words = "".join(f"<div><dt>{xml(k)}</dt><dd>{xml(v)}</dd></div>" for k, v in values.items())
    return f'<dl class="machine">{words}</dl>'
