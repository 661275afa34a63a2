"""The Python API on embedded data: train, build a small bank, delete one digit, check the certificate.

python examples/delete_one_digit.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from expunge import Workspace
from expunge.evidence.keys import read_roots
from expunge.evidence.verify import verify_bundle
from expunge.training.recipe import load_recipe
from expunge.workflow.policy import read_policy


def main(folder: Path) -> None:
    config = {"data": {"source": "digits"}, "bank": {"pairs": 6, "anchors": 0}, "owner": {"name": "example"}}
    with Workspace.create(folder, config=config, recipe=load_recipe("digits")) as workspace:
        workspace.train()
        workspace.bank()
        workspace.selftest("quick")  # every known cheat is tried on the verifier before anybody is certified
        outcome = workspace.run(workspace.request(ids=["train/7/0007"]))
    print(outcome.verdict.value, outcome.guarantee.value, outcome.certificate.path)

    # The relying party's side: needs neither numpy nor torch, and no network.
    roots, policy = read_roots(folder / "roots.json"), read_policy(folder / "policy.yaml")
    checked = verify_bundle(outcome.certificate.path, roots=roots, policy=policy)
    print("\n".join(checked.lines()))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-work"))
