"""What the tests of lying certificates share: how a bundle is checked, and where it failed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evidence.story import ORIGIN, Story, policy
from expunge.evidence.bundle import read_bundle, write_bundle, zip_bytes
from expunge.evidence.log import AuditLog
from expunge.evidence.verify import Verification, verify_bundle

HONEST = Story.order


def check(story: Story, bundle: bytes | Path | None = None, **options: Any) -> Verification:
    given = {"roots": story.roots, "policy": policy(), **options}
    return verify_bundle(bundle or story.folder / "bundle.zip", **given)


def failed(result: Verification) -> list[int]:
    assert not result.ok
    assert result.sentence is None
    return [step.number for step in result.steps if step.status == "failed"]


def reason(result: Verification, number: int) -> str:
    return result.steps[number - 1].reason


def with_files(story: Story, changes: Mapping[str, bytes]) -> bytes:
    files = dict(read_bundle(story.folder / "bundle.zip").files)
    assert any(files.get(name) != data for name, data in changes.items())
    return zip_bytes({**files, **changes})


def forged_log(story: Story, rows: list[tuple[str, Any, str | None]], name: str) -> Verification:
    """The owner logs these rows instead, signs them properly, and bundles them with the honest statement."""
    with AuditLog(story.folder / f"{name}.db", signer=story.signers["log"], origin=ORIGIN) as log:
        entries = log.append_many(rows)
        log.append("padding", {})
        return check(
            story,
            write_bundle(
                story.folder / f"{name}.zip",
                envelope=story.envelope,
                entries=entries,
                proofs=[log.prove_inclusion(entry.index) for entry in entries],
                checkpoint=log.checkpoint(),
                files=story.files(),
            ),
        )
