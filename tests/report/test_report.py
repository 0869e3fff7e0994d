"""`Report` prints its rows as a table, whose layout depends on the width of the terminal."""

import io

import pytest

from minigrad.report.report import Report, Row

ROWS = (Row("loop", 50, 2.0442, 0.0, (0.004, 0.005, 0.007), 1.0, 4096, 17, 1650, 0.012),
        Row("vmapped", 50, 2.0442, 3e-16, (0.0001, 0.0002, 0.0003), 25.0, 8_192_000, 31, 1_650_000, 1.5, "a note"))
REPORT = Report("loss", ROWS, {}, {}, "", (), 2.2e-16)


def printed(width):
    """Return the lines that `rich` prints on a terminal of `width`."""
    console = pytest.importorskip("rich.console")
    out = io.StringIO()
    console.Console(file=out, width=width, force_terminal=False).print(REPORT)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(("width", "turned"), [(200, False), (80, True)])
def test_table_is_transposed_on_a_narrow_terminal(width, turned):
    lines = printed(width)
    header = next(line.split() for line in lines if line.strip().startswith("gradient by"))
    assert header[2:] == ["loop", "vmapped"] if turned else header[-2:] == ["to", "build"]
    assert any(line.split() == ["loss", "2.0442", "2.0442"] for line in lines) == turned


@pytest.mark.parametrize("width", range(40, 160, 3))
def test_table_of_any_width_is_complete(width):
    lines = printed(width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    words = " ".join(lines).split()
    assert all(word in words for row in ROWS for cell in row.cells() for word in cell.split())


def test_text_has_aligned_columns_and_notes():
    title, *table, note, meaning = str(REPORT).splitlines()
    assert title == "loss: mean loss and gradient of 50 examples"
    assert len({len(line) for line in table}) == 1
    assert table[2].split()[:4] == ["vmapped", "50", "2.0442", "3.0e-16"]
    assert note == "  vmapped: a note"
    assert meaning.endswith("the dtype's round-off is 2.2e-16")


def test_derived_numbers():
    assert REPORT["loop"].time == 0.005
    assert REPORT["vmapped"].rate == 250_000
