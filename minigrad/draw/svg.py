"""A picture as SVG text: self-contained, without ids, readable on a light and on a dark page."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html import escape

from .boxes import Box, Picture
from .layout import arrange

ROLES = {  # role -> fill, line and text on a light page; the same on a dark one
    "per-example": ("#e9f0fd", "#3f73c9", "#1d3d73", "#1c2a44", "#6f9bea", "#cfe0ff"),
    "shared": ("#fdf3d9", "#c08a12", "#5c4308", "#3a2f14", "#d9a93a", "#f8e6b8"),
    "batched": ("#def4ec", "#1f9470", "#0f4a38", "#12362c", "#43bf98", "#c4f1e2"),
    "combined": ("#dff1fa", "#2a86b5", "#10425c", "#14303f", "#56b3de", "#c5e6f7"),
    "gradient": ("#fce8f1", "#c94886", "#6b1d43", "#401c2e", "#e57fb0", "#fbd3e5"),
}
_OTHER = ("#eef0f3", "#79828f", "#30363d", "#2a2f36", "#98a1ad", "#dde2e8")
_WIDEST = 44  # characters of a label
_FIRST, _SECOND = 7.9, 6.7  # width of a character in the first line of a box, and in the others
_PAD = 11.0


def xml(text: str) -> str:
    """Return `text` for use in XML: escaped, and without the characters that XML cannot hold."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))


def render(picture: Picture, title: str, notes: tuple[str, ...] = ()) -> str:
    """Return the drawing of a whole graph, with its title, its notes and the legend of its colours."""
    body = draw(picture)
    roles = _roles(picture)
    lines = [n for note in (*notes, *([picture.note] if picture.note else [])) for n in note.splitlines()]
    lines = [_cut(line, 110) for line in lines]
    title = _cut(title, 60)
    parts, y = [_text("title", 0, 14, title)], 18.0
    x = _wide(title) * 8.5 + 26
    width = max([x, *(_wide(line) * _SECOND for line in lines)])
    for role in roles:
        w = len(role) * _SECOND + 2 * _PAD
        parts.append(f'<g class="mg-{_slug(role)}"><rect class="mg-box" x="{_f(x)}" y="0" width="{_f(w)}" height="19" '
                     f'rx="9.5"/>{_text("small", x + _PAD, 13.5, role)}</g>')
        x += w + 8
        width = max(width, x)
    for line in lines:
        y += 17
        parts.append(_text("note", 0, y - 2, line))
    y += 20
    width, height = max(width, body.width) + 24, y + body.height + 24
    parts.append(f'<g transform="translate({_f((width - 24 - body.width) / 2)} {_f(y)})">{body.svg}</g>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="mg" width="{_f(width)}" height="{_f(height)}" '
            f'viewBox="-12 -12 {_f(width)} {_f(height)}" role="img" aria-label="{xml("graph " + title)}">'
            f"<style>{_STYLE}</style>{''.join(parts)}</svg>")


@dataclass
class Drawn:
    svg: str
    width: float
    height: float


def draw(picture: Picture) -> Drawn:
    """Return the boxes and edges of a picture, drawn from (0, 0)."""
    held = [[(key, p, draw(p)) for key, p in box.held] for box in picture.boxes]
    sizes = [_size(box, h) for box, h in zip(picture.boxes, held, strict=True)]
    place = arrange(sizes, picture.edges, picture.ranks, {i for i, b in enumerate(picture.boxes) if b.unordered})
    paths = []
    for x0, y0, low, x1, high, y1 in place.curves:
        d = f"M{_f(x0)} {_f(y0)}" + (f"V{_f(low)}" if low > y0 else "")
        mid = _f((low + high) / 2)
        d += f"V{_f(high)}" if abs(x1 - x0) < 0.05 else f"C{_f(x0)} {mid} {_f(x1)} {mid} {_f(x1)} {_f(high)}"
        paths.append(d + (f"V{_f(y1)}" if y1 > high else ""))
    heads = "".join(f"M{_f(x)} {_f(y)}l-3.6 -7h7.2z" for x, y in place.heads)
    parts = [f'<path class="mg-edge" d="{"".join(paths)}"/><path class="mg-head" d="{heads}"/>'] if paths else []
    for box, size, x, y, h in zip(picture.boxes, sizes, place.x, place.y, held, strict=True):
        parts.append(_draw_box(box, x, y, *size, h))
    return Drawn("".join(parts), place.width, place.height)


def _size(box: Box, held: list[tuple[str, Picture, Drawn]]) -> tuple[float, float]:
    if box.kind == "tag":
        return _wide(_cut(box.label, 28)) * _SECOND + 2 * 8, 19.0
    first = _wide(_cut(box.label)) * _FIRST + (_wide(box.name) * _SECOND + 12 if box.name else 0)
    second = _wide(_cut(box.type)) * _SECOND + (_wide(_where(box.where)) * _SECOND + 14 if box.where else 0)
    width, height = max(first, second, 30.0) + 2 * _PAD, 42.0
    if held:
        width = max(width, sum(d.width + 24 for _, _, d in held) + 12)
        height += max(d.height for _, _, d in held) + 34
    return width, height


def _draw_box(box: Box, x: float, y: float, w: float, h: float, held: list[tuple[str, Picture, Drawn]]) -> str:
    rx = {"op": 6, "tag": h / 2}.get(box.kind, 15)
    parts = [f"<title>{xml(box.tip)}</title>" if box.tip else "",
             f'<rect class="mg-box" width="{_f(w)}" height="{_f(h)}" rx="{_f(rx)}"/>']

    if box.kind == "tag":
        parts.append(_text("small", 8, 13, _cut(box.label, 28)))
    else:
        parts += [_text("label", _PAD, 18, _cut(box.label)), _text("small", _PAD, 33.5, _cut(box.type))]
        parts += [_text("faint", w - _PAD, y0, text, end=True)
                  for y0, text in ((17.5, box.name), (33.5, _where(box.where))) if text]
    left = (w - sum(d.width + 24 for _, _, d in held) + 24) / 2
    for key, p, d in held:
        parts.append(f'<rect class="mg-inner" x="{_f(left - 10)}" y="44" width="{_f(d.width + 20)}" '
                     f'height="{_f(h - 54)}" rx="5"/>')
        note = p.note or (key if len(held) > 1 else "")
        if note:
            parts.append(_text("faint", left - 2, 55, _cut(note, int(d.width / _SECOND))))
        parts.append(f'<g transform="translate({_f(left)} 60)">{d.svg}</g>')
        left += d.width + 24
    return (f'<g class="mg-node mg-{box.kind} mg-{_slug(box.role)}" transform="translate({_f(x)} {_f(y)})">'
            f"{''.join(parts)}</g>")


def _text(style: str, x: float, y: float, text: str, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="mg-{style}" x="{_f(x)}" y="{_f(y)}"{anchor}>{xml(text)}</text>'


def _roles(picture: Picture) -> list[str]:
    """Return the roles that occur, in the order of `ROLES`, those of held graphs included."""
    roles: dict[str, None] = {}
    stack = [picture]
    while stack:
        for box in stack.pop().boxes:
            roles[box.role] = None
            stack += [p for _, p in box.held]
    return [r for r in ROLES if r in roles] + [r for r in roles if r and r not in ROLES]


def _slug(role: str) -> str:
    return role if role in ROLES else "other"


def _wide(text: str) -> int:
    """Return how many columns of a fixed-width font `text` takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, limit: int = _WIDEST) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit - 1] + "…"


def _where(text: str) -> str:
    """Return a location that is not too wide; it is cut in front, because the line stands at the end."""
    return text if len(text) <= 24 else "…" + text[-23:]


def _f(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _style() -> str:
    def rules(kind: str, fill: str, line: str, text: str) -> str:
        return (f".mg-{kind}>.mg-box{{fill:{fill};stroke:{line}}}.mg-{kind}>text{{fill:{text}}}"
                f".mg-output.mg-{kind}>.mg-box{{fill:{line}}}.mg-output.mg-{kind}>text{{fill:{fill}}}")

    colours = {**ROLES, "other": _OTHER}
    light = "".join(rules(k, *c[:3]) for k, c in colours.items())
    dark = "".join(rules(k, *c[3:]) for k, c in colours.items())
    return (
        ".mg text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px;"
        "white-space:pre}"
        ".mg .mg-label{font-size:13px;font-weight:600}.mg .mg-title{font-size:14px;font-weight:600;fill:#7b8694}"
        ".mg .mg-note{fill:#7b8694}.mg .mg-faint{opacity:.62}.mg .mg-box{stroke-width:1.2}"
        ".mg .mg-tag>.mg-box{stroke-dasharray:3 2}.mg .mg-node:hover>.mg-box{stroke-width:2.4}"
        ".mg .mg-edge{fill:none;stroke:#8d97a5;stroke-width:1.3}.mg .mg-head{fill:#8d97a5}"
        f".mg .mg-inner{{fill:#fff;stroke:none;opacity:.75}}{light}"
        f"@media (prefers-color-scheme:dark){{{dark}.mg .mg-inner{{fill:#0e1116;opacity:.6}}}}")


_STYLE = _style()
