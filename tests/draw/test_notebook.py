"""HTML for cells: a live form, and an image that survives the removal of styles, SVG and frames."""

import base64
import re

from minigrad import draw
from minigrad.draw.notebook import cell, framed
from tests.draw.graphs import model


def test_cell_holds_the_drawing_as_an_image():
    svg = draw.graph_svg(model()[0])
    html = cell("<b>live</b>", svg)
    live, image, style = re.fullmatch(r"(<div .*</div>)(<img [^>]*>)(<style>.*</style>)", html).groups()
    assert 'style="display:none"' in live
    assert "<b>live</b>" in live
    still = base64.b64decode(re.search(r'src="data:image/svg\+xml;base64,([^"]*)"', image)[1]).decode()
    assert still == re.sub("<title>.*?</title>", "", svg, flags=re.DOTALL)
    name = re.search('class="([^"]*)"', live)[1]
    assert style == (f"<style>.{name}{{display:block!important}}.{name}-still{{display:none!important}}</style>")


def test_cells_have_styles_of_their_own():
    names = {re.search('class="([^"]*)"', cell(live, "<svg></svg>"))[1] for live in ("a", "b")}
    assert len(names) == 2


def test_frames_escape_their_page_and_their_title():
    frame = framed('<p title="x">&amp;</p>', 'a "b" <c>')
    assert frame.startswith('<iframe srcdoc="&lt;p title=&quot;x&quot;&gt;&amp;amp;&lt;/p&gt;" ')
    assert 'title="a &quot;b&quot; &lt;c&gt;"' in frame
    assert 'sandbox="allow-scripts allow-downloads"' in frame
