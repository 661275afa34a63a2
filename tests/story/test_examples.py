"""Every example runs as its first lines say, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.rglob("*.py"))


def deleted_and_verified(said: str) -> None:
    assert "PASS EXACT" in said
    assert "\nVERIFIED" in said
    assert "NOT VERIFIED" not in said


def forgotten_and_the_controls_are_not(said: str) -> None:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    found = {row[0]: row[1:] for row in cells if len(row) == 3}
    assert found["Gram equals that of the retained users"] == ["True", "False"]
    for name in ("largest weight difference to a retraining", "own items' residuals to leave-one-out"):
        forgotten, left = map(float, found[name])
        assert forgotten < 1e-12 < 1e-5 < left
    assert found["top-20 lists shared with a retraining"][0] == "100.0%"


SAYS: dict[str, Callable[[str], None]] = {  # what an example must say; one without an entry fails
    "delete_one_digit": deleted_and_verified,
    "forget_one_user": forgotten_and_the_controls_are_not,
    "forget": deleted_and_verified,
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wanted = example.read_text().split('"""')[1]
    folder = [str(tmp_path / "ws")] if "FOLDER" in wanted else []
    more = ["--lists"] if "--lists" in wanted else []
    done = subprocess.run([sys.executable, str(example), *folder, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    SAYS[example.stem](done.stdout)


def test_there_is_an_example() -> None:
    assert EXAMPLES
