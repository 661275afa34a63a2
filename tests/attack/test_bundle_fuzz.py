"""Statements, files and logs changed at random, some of them properly signed: none passes, none raises."""

from __future__ import annotations

import random
from typing import Any

import pytest

from attack.bundles import check, failed, forged_log
from evidence.story import Story
from expunge.core.codec import canonical, loads
from expunge.evidence.bundle import read_bundle, zip_bytes
from expunge.evidence.envelope import sign_envelope

JUNK: tuple[Any, ...] = (None, True, -1, 2**53 - 1, "", "x", "sha256:" + "0" * 64, [], [[]], {}, {"x": 1})


def mutations(plain: Any, rng: random.Random, count: int) -> list[Any]:
    """Copies of a JSON value with one node replaced by junk, removed, or doubled."""

    def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = (
            list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        )
        return [path, *(deep for key, item in inner for deep in paths(item, (*path, key)))]

    results = []
    for path in rng.choices(paths(plain)[1:], k=count):
        copy = loads(canonical(plain))
        node = copy
        for key in path[:-1]:
            node = node[key]
        if rng.random() < 0.2:
            del node[path[-1]]
        else:
            node[path[-1]] = rng.choice(JUNK)
        if copy != plain:
            results.append(copy)
    return results


def test_fuzzed_statements_signed_by_both_keys_fail_without_an_exception(story: Story) -> None:
    files = dict(read_bundle(story.folder / "bundle.zip").files)
    for plain in mutations(loads(story.statement), random.Random(4), 250):
        envelope = sign_envelope(canonical(plain), [story.signers["operator"], story.signers["verifier"]])
        assert failed(check(story, zip_bytes({**files, "certificate.json": canonical(envelope)})))


@pytest.mark.parametrize("name", ["log.json", "plan.json", "findings.json", "absence.json", "certificate.json"])
def test_fuzzed_files_fail_without_an_exception(story: Story, name: str) -> None:
    files = dict(read_bundle(story.folder / "bundle.zip").files)
    for plain in mutations(loads(files[name]), random.Random(5), 60):
        assert failed(check(story, zip_bytes({**files, name: canonical(plain)})))


def test_fuzzed_logs_that_are_properly_signed_fail_without_an_exception(story: Story) -> None:
    with story.open_log() as log:
        rows = [(entry.kind, entry.payload, entry.case) for entry in log.entries()]
    assert forged_log(story, rows, "honest").ok
    for place in range(len(rows)):
        assert set(failed(forged_log(story, rows[:place] + rows[place + 1 :], f"without{place}"))) & {4, 6, 7, 8}
    payloads = [dict(payload) for _, payload, _ in rows]
    unbound = 0
    for number, changed in enumerate(mutations(payloads, random.Random(6), 40)):
        if len(changed) != len(rows):
            continue
        told = [
            (kind, payload if isinstance(payload, dict) else {}, case)
            for (kind, _, case), payload in zip(rows, changed, strict=True)
        ]
        result = forged_log(story, told, f"changed{number}")
        touched = {kind for (kind, _, _), old, new in zip(rows, payloads, changed, strict=True) if old != new}
        if result.ok:  # only fields that the specification does not bind
            assert touched <= {"request.resolved", "data.ingested", "data.purged"}
            unbound += 1
        else:
            assert set(failed(result)) <= {6, 7, 8}
    assert unbound < 15
