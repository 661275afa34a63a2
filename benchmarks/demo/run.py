"""Wall seconds of `expunge demo` and what it ends with.

python benchmarks/demo/run.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = hardware()
        command = [sys.executable, "-m", "expunge.apps.cli.main", "demo", "--folder", f"{folder}/demo", "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
    chapters = []
    for chapter in json.loads(done.stdout)["cases"]:
        outcome = chapter["outcome"]
        trial = outcome["trials"][-1] if outcome else None
        chapters.append(
            {
                "title": chapter["title"],
                "guarantee": outcome["guarantee"] if outcome else None,
                "refusal": chapter["refusal"][:300],
                "method": trial["method"] if trial else None,
                "verdicts": {f["check"]: f["verdict"] for f in trial["findings"]} if trial else {},
            }
        )
    record = {
        "command": "python benchmarks/demo/run.py",
        "seconds": round(seconds, 1),
        "n": 1,
        "chapters": chapters,
        "hardware": before,
    }
    (Path(__file__).parent / "result.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
