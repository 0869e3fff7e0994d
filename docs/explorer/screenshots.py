"""Write the pictures of the explorer: ``python docs/explorer/screenshots.py [FOLDER]``, light and dark."""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from programs import VIEWS  # noqa: E402

from minigrad.explorer import Exploration  # noqa: E402

COLOURS = 128

_VIEW = """([stage, second, example, op]) => {
    const e = minigradExplorer, at = (title) => e.stages.findIndex((s) => s.title === title);
    Object.assign(e.state, {stage: at(stage), second: second === null ? -1 : at(second), example});
    e.draw();
    const node = e.stages[e.state.stage].nodes.find((n) => n.op === op);
    if (node) e.select(node);
}"""


def picture(browser: Browser, page: Exploration, view: tuple[object, ...], scheme: str) -> bytes:
    """Return a PNG of a page with few colours."""
    with tempfile.TemporaryDirectory() as folder:
        tab = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
        tab.goto("file://" + page.save(Path(folder, "page.html")))
        tab.evaluate(_VIEW, list(view))
        png = tab.screenshot()
        tab.close()
    out = io.BytesIO()
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(out, "PNG", optimize=True)
    return out.getvalue()


def main(folder: Path) -> None:
    """Write two pictures of each page."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (make, *view) in VIEWS.items():
            page = make()
            for scheme in ("light", "dark"):
                data = picture(browser, page, tuple(view), scheme)
                (folder / f"{name}-{scheme}.png").write_bytes(data)
                print(f"{name}-{scheme}.png: {len(data) / 1e3:.0f} kB, the page {len(page.html) / 1e6:.2f} MB")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
