"""Pages: their parts escape text, and stand in one frame with one style sheet."""

from minigrad.report.document import document, facts, figures, header, section, table


def test_a_page_has_one_title_and_its_sections_in_order():
    page = document("a < b", "<header></header>", [section("First & last", "<p>1</p>"), section("Second", "<p>2</p>")])
    assert page.startswith("<!doctype html>")
    assert "<title>minigrad · a &lt; b</title>" in page
    assert page.count("<style>") == 1
    assert page.index('<section id="first-last"><h2>First &amp; last</h2>') < page.index('<section id="second">')


def test_heads_have_a_card_for_each_number():
    head = header("audit", "all <right>", "<em>so</em>", [("1", "one", "<"), ("2", "two", "")])
    assert "<h1>all &lt;right&gt;</h1>" in head
    assert '<p class="lead"><em>so</em></p>' in head
    assert head.count("<li>") == 2
    assert "<small>&lt;</small>" in head


def test_tables_mark_one_row():
    out = table(["a", "b"], [["x<", "1"], ["y", "2"]], marked=1)
    assert out.count("<tr") == 3
    assert "<tr class=best><th scope=row>y</th><td>2</td></tr>" in out
    assert "x&lt;" in out


def test_figures_and_facts():
    assert figures(["<svg/>", "<svg/>"]).count("<figure>") == 2
    assert facts({"a": "<1>"}) == '<dl class="machine"><div><dt>a</dt><dd>&lt;1&gt;</dd></div></dl>'
