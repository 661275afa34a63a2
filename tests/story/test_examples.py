"""Every example runs as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
SAYS = {  # what an example must end with; one without an entry fails
    "delete_one_digit": ("PASS EXACT", "VERIFIED"),
    "forget_one_user": ("Gram equals that of the retained users", "True", "100.0%"),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    folder = [str(tmp_path / "ws")] if "FOLDER" in example.read_text().split('"""')[1] else []
    done = subprocess.run([sys.executable, str(example), *folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in SAYS[example.stem]:
        assert words in done.stdout
    assert "NOT VERIFIED" not in done.stdout


def test_there_is_an_example() -> None:
    assert EXAMPLES
