"""MyST as the Markdown that Jupyter shows: directives become quotes, code and images; links lead to notebooks."""

import base64
import inspect
import mimetypes
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from public_names import resolve
from sphinx.errors import ExtensionError

PARSER = MarkdownIt("commonmark").use(colon_fence_plugin)
INLINE = re.compile(r"(?P<code>(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
                    r"|(?<!!)\[(?P<text>[^\]\[]+)\]\((?!https?:)(?P<target>[^)\s]+)\)", re.DOTALL)
ROLE = re.compile(r"\{[a-z:-]+\}`")
TARGET = re.compile(r"^(?:\([\w-]+\)=|%.*|\+\+\+.*)$", re.MULTILINE)
DEFINITION = re.compile(r"^(?P<term>\S.*)\n: +(?P<body>.*(?:\n {2,}.*)*)", re.MULTILINE)
ADMONITIONS = ("admonition", "attention", "caution", "danger", "error", "hint", "important", "note", "seealso", "tip",
               "warning")


@dataclass
class Directive:
    """A directive of a page: its name, its argument, its options and its body."""

    name: str
    argument: str
    options: dict[str, str]
    body: str


@dataclass
class PlainMarkdown:
    """A converter for a page, which lies `depth` folders below the root of the sources."""

    page: str
    sources: Path
    link: Callable[[str, str], str]  # the address of another page and of an anchor on it, or "" where there is none
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)

    def convert(self, text: str) -> str:
        """Return the text as plain Markdown. Images are collected in `attachments`."""
        lines, done, start = text.split("\n"), [], 0
        for first, end, directive in self._blocks(text):
            done += [self._outside("\n".join(lines[start:first]))] if first > start else []
            if directive is None:
                done += lines[first:end]
            else:
                indent = re.match(r" *", lines[first])[0]
                done += [f"{indent}{line}".rstrip() for line in self._plain(directive).split("\n")]
            start = end
        return "\n".join([*done, self._outside("\n".join(lines[start:]))]).rstrip("\n")

    def _blocks(self, text: str) -> Iterator[tuple[int, int, Directive | None]]:
        """Yield the first line and the end of each block of code or HTML, with its directive if it is one."""
        for token in PARSER.parse(text):
            if token.type in ("fence", "colon_fence") and (head := re.match(r"\{([\w:-]+)\}\s*(.*)", token.info)):
                options, body = {}, token.content.split("\n")
                while body and (option := re.match(r":([\w-]+):\s*(.*)", body[0])):
                    options[option[1]] = option[2]
                    body.pop(0)
                yield *token.map, Directive(head[1], head[2].strip(), options, "\n".join(body).strip("\n"))
            elif token.type in ("fence", "code_block", "html_block"):
                yield *token.map, None

    def _plain(self, directive: Directive) -> str:
        name, title = directive.name, directive.argument
        if name in ADMONITIONS:
            words = [f"**{title}**"] if name == "admonition" else [f"**{name.capitalize()}.**", title]
            text = "\n".join([" ".join(filter(None, words)), "", self.convert(directive.body)])
            return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
        if name == "literalinclude":
            caption = directive.options.get("caption")
            code = f"```{directive.options.get('language', 'python')}\n{self._included(directive)}\n```"
            return f"*{caption}*\n\n{code}" if caption else code
        if name in ("figure", "image"):
            path = self._file(title)
            kind = mimetypes.guess_type(path)[0] or "image/png"
            self.attachments[path.name] = {kind: base64.b64encode(path.read_bytes()).decode()}
            picture = f"![{directive.options.get('alt', '')}](attachment:{path.name})"
            return f"{picture}\n\n{self.convert(directive.body)}" if directive.body else picture
        if name == "public":
            names = directive.body.split()
            return "\n".join(f"- `mg.{n}`: {(inspect.getdoc(resolve(n)) or '').partition(chr(10))[0]}" for n in names)
        if name == "math":
            return f"$$\n{directive.body or title}\n$$"
        if name in ("code", "code-block"):
            return f"```{title}\n{directive.body}\n```"
        raise ExtensionError(f"{self.page}: the notebook of a page that runs has no form of the directive {name!r}; "
                             f"add one to {Path(__file__).name}")

    def _file(self, name: str) -> Path:
        """Return a file that the page names: from the root of the sources, or from the page's folder."""
        return (self.sources / (name[1:] if name.startswith("/") else f"{Path(self.page).parent}/{name}")).resolve()

    def _included(self, directive: Directive) -> str:
        """Return the part of a file that `start-at` and `end-before` choose."""
        lines, options = self._file(directive.argument).read_text(encoding="utf-8").splitlines(), directive.options
        unknown = options.keys() - {"caption", "language", "lineno-match", "start-at", "end-before"}
        if unknown:
            raise ExtensionError(f"{self.page}: literalinclude with {sorted(unknown)} has no form in a notebook")

        def find(option: str, begin: int, default: int) -> int:
            """Return the first line that holds the text of an option."""
            mark = options.get(option, "").strip("\"'")
            return next(n for n, line in enumerate(lines) if n >= begin and mark in line) if mark else default

        first = find("start-at", 0, 0)
        return "\n".join(lines[first:find("end-before", first, len(lines))]).strip("\n")

    def _outside(self, text: str) -> str:
        """Return prose without targets and definition lists, and with links that hold in a notebook."""
        text = DEFINITION.sub(r"- **\g<term>**: \g<body>", TARGET.sub("", text))
        if role := ROLE.search(re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", lambda code: f"`{' ' * len(code[0])}", text)):
            raise ExtensionError(f"{self.page}: the role {role[0][:-1]} has no form in a notebook")
        return INLINE.sub(self._inline, text)

    def _inline(self, found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        target, _, anchor = found["target"].partition("#")
        address = self.link(target, anchor)
        return f"[{found['text']}]({address})" if address else found["text"]
