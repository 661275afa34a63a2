"""Records a result of `expunge bench auditors` with hardware and command, and puts its table into docs/auditors.md.

expunge bench auditors --peer NAME=PYTHON … --source NAME=CHECKOUT … --out FILE
python benchmarks/auditors/run.py FILE "the command that made it"
python benchmarks/auditors/run.py            # only renders the recorded result again
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from hardware import hardware

from expunge.apps.bench.table import END, START, markdown

RESULT = Path(__file__).with_name("result.json")
PAGE = Path(__file__).parents[2] / "docs" / "auditors.md"


def main() -> None:
    if len(sys.argv) == 3:
        found = json.loads(Path(sys.argv[1]).read_text())
        head = {"command": sys.argv[2], "date": datetime.now(UTC).date().isoformat()}
        RESULT.write_text(json.dumps(head | found | {"hardware": hardware()}, indent=1) + "\n")
    before, _, rest = PAGE.read_text().partition(START)
    table = markdown(json.loads(RESULT.read_text()))
    PAGE.write_text(f"{before}{START}\n{table}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
