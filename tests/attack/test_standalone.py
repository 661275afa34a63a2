"""The verifier inside the bundle: alone, without expunge on the path, it says the same yes and the same no."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evidence.story import NOW, NUMERICS, Story, asked, digest, edited, findings, spoiled
from expunge.core.codec import canonical
from expunge.core.finding import Guarantee, Verdict
from expunge.evidence import standalone as shipped
from expunge.evidence.bundle import read_bundle, zip_bytes
from expunge.evidence.envelope import sign_envelope
from expunge.evidence.keys import TrustRoots, write_roots
from expunge.evidence.predicate import RECOMPUTED, Recomputed

from .bundles import forged_log
from .test_bundle_log import Repeating, TwinsAtTheirPlaces
from .test_bundle_tampering import LIES, Released

SOURCE = Path(shipped.__file__)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    story = Story(tmp_path / "s")
    story.tell()
    write_roots(tmp_path / "roots.json", story.roots)
    return story


def alone(tmp_path: Path, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the verify.py of the bundle in an empty folder, isolated from the environment and from this package."""
    folder = tmp_path / "stranger"
    folder.mkdir(exist_ok=True)
    (folder / "verify.py").write_bytes(read_bundle(bundle).files["verify.py"])
    command = [sys.executable, "-I", "verify.py", str(bundle), "--roots", str(tmp_path / "roots.json"), *options]
    blocked = {"PATH": os.environ["PATH"], "PYTHONPATH": "", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=blocked, capture_output=True, text=True, timeout=60, check=False)


def test_honest_bundle_verifies_alone(tmp_path: Path, story: Story) -> None:
    (tmp_path / "receipt.txt").write_text(story.receipt)
    done = alone(tmp_path, story.folder / "bundle.zip", "--against", str(tmp_path / "receipt.txt"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "counts only if you trust its source" in done.stdout
    assert "self-issued" in done.stdout
    assert "As logged by the owner" in done.stdout
    assert "not judged by a policy" in done.stdout
    assert "size 3 to" in done.stdout


def test_tampered_bundle_exits_five(tmp_path: Path, story: Story) -> None:
    files = dict(read_bundle(story.folder / "bundle.zip").files)
    spoilt = tmp_path / "spoilt.zip"
    spoilt.write_bytes(zip_bytes({**files, "report.html": b"<!doctype html>all fine"}))
    done = alone(tmp_path, spoilt)
    assert done.returncode == 5
    assert "NOT VERIFIED" in done.stdout
    assert done.stderr == ""


def test_standalone_imports_nothing_but_cryptography() -> None:
    import ast

    names = set()
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"cryptography"}
    assert not names & {"socket", "urllib", "http", "subprocess", "pickle", "os"}


# --------------------------------------------------------------- in this process, for speed, the file as it is shipped


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shipped_verify", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VERIFY = load()


def code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Path | bytes, *options: str) -> int:
    if isinstance(bundle, bytes):
        (tmp_path / "b.zip").write_bytes(bundle)
        bundle = tmp_path / "b.zip"
    monkeypatch.setattr(sys, "argv", ["verify.py", str(bundle), "--roots", str(tmp_path / "roots.json"), *options])
    result: int = VERIFY.main()
    return result


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return lambda bundle, *options: code(monkeypatch, tmp_path, bundle, *options)


def test_a_changed_byte_in_any_file_is_found_alone(story: Story, run: Any) -> None:
    files = dict(read_bundle(story.folder / "bundle.zip").files)
    assert run(story.folder / "bundle.zip") == 0
    rng = random.Random(3)
    for name, data in files.items():
        for position in {0, len(data) // 2, len(data) - 1, *(rng.randrange(len(data)) for _ in range(10))}:
            changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            assert run(zip_bytes({**files, name: changed})) == 5, f"{name} at {position}"
        assert run(zip_bytes({key: value for key, value in files.items() if key != name})) == 5, f"no {name}"


@pytest.mark.parametrize("lie", LIES)
def test_lies_that_expunge_finds_are_found_alone(tmp_path: Path, lie: str, run: Any) -> None:
    story = Story(tmp_path / "s", spoil=LIES[lie][0])
    story.tell()
    write_roots(tmp_path / "roots.json", story.roots)
    expected = 0 if lie in ("other numerics", "other parameters") else 5  # plan details that only expunge compares
    assert run(story.folder / "bundle.zip") == expected


@pytest.mark.parametrize(
    "order",
    [
        ("candidate.executed", "plan.committed", "findings.recorded", "decision.made", "model.released", "data.purged"),
        ("plan.committed", "candidate.executed", "findings.recorded", "decision.made", "model.released"),
        ("plan.committed", "candidate.executed", "findings.recorded", "decision.made", "data.purged"),
        ("plan.committed", "candidate.executed", "findings.recorded", "model.released", "decision.made", "data.purged"),
    ],
)
def test_steps_out_of_order_are_found_alone(tmp_path: Path, order: tuple[str, ...], run: Any) -> None:
    story = Story(tmp_path / "s", order=order)
    story.tell()
    write_roots(tmp_path / "roots.json", story.roots)
    assert run(story.folder / "bundle.zip") == 5


@pytest.mark.parametrize("changes", [{"model": digest("another")}, {"replaces": digest("another")}, {"model": None}])
def test_another_model_in_service_is_found_alone(tmp_path: Path, changes: dict[str, Any], run: Any) -> None:
    story = Released(tmp_path / "s")
    story.released = changes
    story.tell()
    write_roots(tmp_path / "roots.json", story.roots)
    assert run(story.folder / "bundle.zip") == 5


def test_original_put_back_in_service_is_found_alone(story: Story, run: Any) -> None:
    with story.open_log() as log:
        rows = [(entry.kind, entry.payload, entry.case) for entry in log.entries()]
    for model, expected in ((digest("model before"), 5), (story.model, 0)):
        name = f"again{expected}"
        forged_log(story, [*rows, ("model.released", {"model": model, "replaces": story.model}, None)], name)
        assert run(story.folder / f"{name}.zip") == expected


def test_contents_proven_twice_are_found_alone(tmp_path: Path, run: Any) -> None:
    for kind, expected in ((Repeating, 5), (TwinsAtTheirPlaces, 0)):
        story = kind(tmp_path / kind.__name__, forget=(3, 4))
        story.tell()
        write_roots(tmp_path / "roots.json", story.roots)
        assert run(story.folder / "bundle.zip") == expected


def test_sentences_of_every_guarantee_agree_with_expunge(tmp_path: Path, run: Any) -> None:
    def recomputed(predicate: Any) -> Any:
        by = Recomputed(name="verifier inc", keyid=told.signers["verifier"].keyid, numerics=NUMERICS)
        return replace(predicate, custody="separate", guarantee_basis=RECOMPUTED, recomputed=by)

    for told in (
        Story(tmp_path / "1", forget=(1, 2)),
        Story(tmp_path / "2", guarantee=Guarantee.EMPIRICAL, found=findings(Verdict.PASS)),
        Story(tmp_path / "3", guarantee=Guarantee.EMPIRICAL, found=findings(Verdict.PASS)[1:2]),
        Story(tmp_path / "4", spoil=recomputed),
        Story(tmp_path / "5", guarantee=Guarantee.EMPIRICAL, found=edited()),
        Story(tmp_path / "6", guarantee=Guarantee.EMPIRICAL, found=(*edited(), asked())),
    ):
        told.tell()
        write_roots(tmp_path / "roots.json", told.roots)
        assert run(told.folder / "bundle.zip") == 0, told.folder


def test_keys_alone(tmp_path: Path, story: Story, run: Any) -> None:
    files = dict(read_bundle(story.folder / "bundle.zip").files)
    for signers in (["operator"], ["operator", "log"], ["verifier"]):
        envelope = sign_envelope(story.statement, [story.signers[role] for role in signers])
        assert run(zip_bytes({**files, "certificate.json": canonical(envelope)})) == 5
    one = sign_envelope(story.statement, [story.signers["operator"]])
    twice = {**one, "signatures": one["signatures"] * 2}
    assert run(zip_bytes({**files, "certificate.json": canonical(twice)})) == 5
    for keys in ((), story.roots.role("log"), story.roots.role("operator", "verifier")):
        write_roots(tmp_path / "roots.json", TrustRoots(keys=keys))
        assert run(story.folder / "bundle.zip") == 5
    (tmp_path / "roots.json").write_text("not json")
    assert run(story.folder / "bundle.zip") == 5


def test_receipts_alone(tmp_path: Path, story: Story, run: Any) -> None:
    fork = Story(tmp_path / "fork")
    with fork.open_log() as log:
        log.append("something else", {})
        forked = fork.intake(log)
    with story.open_log() as log:
        log.append("later", {})
        newer = log.checkpoint()
    for name, note, expected in (
        ("good", story.receipt, 0),
        ("same size", story.checkpoint, 0),
        ("fork", forked, 5),
        ("rollback", newer, 5),
        ("garbage", "x", 5),
    ):
        (tmp_path / "receipt.txt").write_text(note)
        assert run(story.folder / "bundle.zip", "--against", str(tmp_path / "receipt.txt")) == expected, name


def test_expired_alone(tmp_path: Path, run: Any) -> None:
    spoil = spoiled(issued_at=NOW - timedelta(days=2), expires_at=NOW - timedelta(days=1))
    story = Story(tmp_path / "s", spoil=spoil)
    story.tell()
    write_roots(tmp_path / "roots.json", story.roots)
    assert run(story.folder / "bundle.zip") == 5


def test_garbage_alone(tmp_path: Path, story: Story, run: Any) -> None:
    assert run(tmp_path / "none.zip") == 5
    assert run(b"not a zip") == 5
    assert run(zip_bytes({"../x": b""})) == 5
    assert digest("x")
