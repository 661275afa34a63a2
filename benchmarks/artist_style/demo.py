"""How long `expunge demo artist-style` takes, and what it says: the whole protocol, and the size that CI has time for.

    python benchmarks/artist_style/demo.py [--only full|quick]

Each runs as a user runs it, in a process and a folder of its own. Writes demo.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recorded import record_parts

SIZES: Mapping[str, tuple[str, ...]] = {"full": (), "quick": ("--quick",)}


def told(size: str) -> dict[str, Any]:
    """What the demo prints as JSON, without the place of its page."""
    with tempfile.TemporaryDirectory(prefix="expunge-demo-") as folder:
        verb = [str(Path(sys.executable).with_name("expunge")), "demo", "artist-style", *SIZES[size]]
        run = subprocess.run([*verb, "--json", "--folder", f"{folder}/demo"], stdout=subprocess.PIPE, check=True)
    return {name: value for name, value in json.loads(run.stdout).items() if name != "page"}


def main() -> None:
    """Both sizes, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(SIZES))
    args = parser.parse_args()
    parts = {size: (lambda size=size: told(size)) for size in SIZES}
    record_parts(Path(__file__).with_name("demo.json"), "python benchmarks/artist_style/demo.py", parts, args.only)


if __name__ == "__main__":
    main()
