"""Columns of node records."""

from minigrad.explorer.columns import Tables


def test_equal_fields_stand_in_a_table_once():
    tables = Tables()
    nodes = [{"name": "x", "inputs": [], "op": "input", "call": "", "key": 0, "input": True},
             {"name": "%1", "inputs": [0], "op": "sin", "call": "sin(⟦0⟧)", "key": 1, "value": 5},
             {"name": "%2", "inputs": [1], "op": "sin", "call": "sin(⟦0⟧)", "key": 2, "held": [{"name": "f"}]}]
    columns = tables.columns(nodes)
    assert columns["call"] == [0, 1, 1]
    assert tables.records["call"][1] == {"op": "sin", "call": "sin(⟦0⟧)"}
    assert columns["name"] == ["x", 1, 2]
    assert columns["inputs"] == [[], [1], [1]]
    assert columns["value"] == [-1, 5, -1]
    assert columns["held"] == {"2": [{"name": "f"}]}
    assert "cotangent" not in columns


def test_names_that_look_like_numbers_stay():
    names = ["%1", "%01", "%", "%x", "1"]
    assert Tables().columns([{"name": n, "inputs": []} for n in names])["name"] == [1, "%01", "%", "%x", "1"]
