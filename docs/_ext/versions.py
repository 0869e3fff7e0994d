"""The switch of versions: a list of all sites beside each other, which each build renews in every one of them.

Build each version into a folder of its own: ``python -m sphinx -b html docs site/0.2``. Pages load the list as a
script, so that the switch works without a server.
"""

import json
from pathlib import Path

from packaging.version import Version
from sphinx.application import Sphinx

OWN, ALL = "version.json", "versions.js"


def renew(folder: Path) -> None:
    """Write the list of all versions, the newest first, into each site in a folder."""
    sites = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"*/{OWN}")}
    entries = [{**own, "folder": site.name} for site, own in sites.items()]
    entries.sort(key=lambda entry: (Version(entry["version"]), entry["folder"]), reverse=True)
    for site in sites:
        (site / ALL).write_text(f"window.minigradVersions = {json.dumps(entries)};\n", encoding="utf-8")


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the version and the pages of a site, and renew the lists."""
    if exception is None and app.builder.format == "html":
        own = {"version": app.config.version, "pages": sorted(app.env.found_docs)}
        Path(app.outdir, OWN).write_text(json.dumps(own), encoding="utf-8")
        renew(Path(app.outdir).parent)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the lists when all pages are written, and before their links are checked."""
    app.connect("build-finished", write, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
