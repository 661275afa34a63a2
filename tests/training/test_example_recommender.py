"""The example says what it should, on synthetic users."""

import runpy
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "examples" / "forget_one_user.py"


def test_the_example_forgets_and_its_controls_do_not(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(FILE)])
    monkeypatch.setenv("COLUMNS", "200")
    runpy.run_path(str(FILE), run_name="__main__")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    found = {row[0]: row[1:] for row in cells if len(row) == 3}
    assert found["Gram equals that of the retained users"] == ["True", "False"]
    forgotten, left = map(float, found["largest weight difference to a retraining"])
    assert forgotten < 1e-12 < 1e-5 < left
    forgotten, left = map(float, found["own items' residuals to leave-one-out"])
    assert forgotten < 1e-12 < 1e-5 < left
    assert found["top-20 lists shared with a retraining"][0] == "100.0%"
