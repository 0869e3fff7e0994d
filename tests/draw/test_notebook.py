"""HTML for cells: a live form, and one that survives the removal of styles, SVG and frames."""

import base64
import re

from minigrad import draw
from minigrad.draw.notebook import cell, framed, graph_text, image
from tests.draw.graphs import chain, model


def test_cell_has_a_live_form_and_a_still_one():
    parts = re.fullmatch(r'<div class="(.*?)" (style="display:none")>L</div><div class="(.*?)">S</div>'
                         r"<style>\.(.*?){display:block!important}\.(.*?){display:none!important}</style>",
                         cell("L", "S"))
    live, _, still, shown, hidden = parts.groups()
    assert (shown, hidden) == (live, still)
    assert cell("other", "S").count(live) == 0  # cells have styles of their own


def test_image_is_the_drawing_without_tooltips():
    svg = draw.graph_svg(model()[0])
    source = re.search(r'src="data:image/svg\+xml;base64,([^"]*)"', image(svg))[1]
    assert base64.b64decode(source).decode() == re.sub("<title>.*?</title>", "", svg, flags=re.DOTALL)


def test_frames_escape_their_page_and_their_title():
    frame = framed('<p title="x">&amp;</p>', 'a "b" <c>')
    assert frame.startswith('<iframe srcdoc="&lt;p title=&quot;x&quot;&gt;&amp;amp;&lt;/p&gt;" ')
    assert 'title="a &quot;b&quot; &lt;c&gt;"' in frame
    assert 'sandbox="allow-scripts allow-downloads"' in frame


def test_a_long_text_is_cut_with_a_note():
    assert graph_text(model()[0]) == str(model()[0])
    lines = graph_text(chain(5000)).split("\n")
    assert len(lines) == 2001
    assert lines[-1] == "  … 3,002 more lines: print(graph) shows them"
