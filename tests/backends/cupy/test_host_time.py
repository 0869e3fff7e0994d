"""The benchmark of what a call costs the host runs."""

from . import host_time


def test_every_case_is_measured(monkeypatch, capsys):
    for name, value in (("ROUNDS", 1), ("PARAMETERS", 3), ("MOLECULES", 2), ("DRAWN", 6), ("STEPS", 2)):
        monkeypatch.setattr(host_time, name, value)
    assert host_time.main(2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "training step, 32 examples", "gradient of 3 parameters", "training step with Adam", "2 graphs, shuffled"]
    assert all(float(line.split(": ")[-1].split(" ")[0]) > 0 for line in lines)
