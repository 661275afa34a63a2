"""The chain: every kind of edit is found. And what a transcript must say, against a twin that trains nothing."""

import hashlib
import json
from dataclasses import replace

import pytest

from expunge.core.codec import canonical, decimal
from expunge.core.errors import IntegrityError
from expunge.testing.world import make_world
from expunge.training.audit import audited, expected_transcript
from expunge.training.transcript import (
    GENESIS,
    Transcript,
    link,
    order_commitment,
    read_transcript,
    receipt_root,
    transcript_digest,
)
from training import slow_twins


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("run"))
    return world, world.fit("run", frozenset({7, 30}))


def slow_root(leaves):
    """RFC 9162 section 2.1.1 by recursion."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


def slow_transcript(world, absent):
    """Step and epoch lines by the slowest way: twin schedule, one hash at a time."""
    recipe, leaves = world.adapter.recipe, world.leaves
    steps = list(slow_twins.steps(recipe, world.seed, range(len(world.data.train))))
    for number, (epoch, batch) in enumerate(steps):
        present = [slot for slot in batch if slot not in absent]
        order = hashlib.sha256(b"expunge/order/v1|" + b"".join(bytes.fromhex(leaves.ids[s]) for s in present))
        yield {
            "kind": "step",
            "step": number,
            "epoch": epoch,
            "order": order.hexdigest(),
            "present": len(present),
            "slots": len(batch),
            "lr": decimal(slow_twins.lr(recipe, number, len(steps))),
        }
        if number + 1 == len(steps) or steps[number + 1][0] != epoch:
            read = sorted(leaves.contents[s] for e, b in steps if e == epoch for s in b if s not in absent)
            root = slow_root([bytes.fromhex(leaf) for leaf in read]).hex()
            yield {"kind": "epoch", "epoch": epoch, "receipt": {"root": f"sha256:{root}", "count": len(read)}}


def rounded(lines):
    """Learning rates to twelve digits: the twin interpolates in another order of operations."""
    return [{**line, "lr": f"{float(line['lr']):.12f}"} if "lr" in line else line for line in lines]


def test_receipts_and_order_commitments_equal_the_slow_twin(run):
    world, result = run
    lines = audited(read_transcript(result.transcript))
    assert rounded(lines) == rounded(slow_transcript(world, {7, 30}))
    assert rounded(lines) != rounded(slow_transcript(world, {7}))


def test_expected_lines_are_those_of_a_real_run_and_of_no_other(run):
    world, result = run
    lines = audited(read_transcript(result.transcript))
    job = world.job("x", frozenset({7, 30}))
    assert expected_transcript(world.adapter.recipe, world.adapter.parts(job), world.leaves) == lines
    for other in (replace(job, absent=frozenset({7})), replace(job, absent=frozenset({7, 31})), replace(job, seed="t")):
        assert expected_transcript(world.adapter.recipe, world.adapter.parts(other), world.leaves) != lines


def test_expected_lines_of_shards_are_those_of_a_real_run(tmp_path):
    world = make_world(tmp_path, shards=3)
    result = world.fit("run", frozenset({7}))
    job = world.job("run", frozenset({7}))
    expected = expected_transcript(world.adapter.recipe, world.adapter.parts(job), world.leaves)
    assert expected == audited(read_transcript(result.transcript))
    assert {line["shard"] for line in expected} == {0, 1, 2}


def test_no_record_id_pixel_or_seed_is_in_a_transcript(run):
    world, result = run
    text = result.transcript.read_text()
    assert not any(name in text for name in world.data.train.ids)
    assert not any(world.data.train.content_digest(slot) in text for slot in range(48))
    assert world.seed not in text


def test_a_run_without_checkpoints_still_says_how_it_started(tmp_path):
    """A fine-tuned model that kept no checkpoints used to have no start line, and so no `from`."""
    world = make_world(tmp_path)
    start = world.fit("original").model
    job = world.job("tuned", keep_checkpoints=False)
    tuned = world.adapter.tune(job, start, {"epochs": 1})
    first = read_transcript(tuned.transcript)[0]
    assert first["kind"] == "start"
    assert "from" in first


# ---------------------------------------------------------------------------------------------------------- tampering


@pytest.fixture
def copy(run, tmp_path):
    file = tmp_path / "transcript.jsonl"
    file.write_bytes(run[1].transcript.read_bytes())
    return file


def rewrite(file, edit):
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(edit(lines)))


def test_control_the_untouched_copy_reads_and_has_the_runs_digest(run, copy):
    assert len(read_transcript(copy)) > 15
    assert transcript_digest(copy) == transcript_digest(run[1].transcript)


def edited(lines, number, **changes):
    plain = {**json.loads(lines[number]), **changes}
    return [*lines[:number], canonical(plain) + b"\n", *lines[number + 1 :]]


EDITS = {
    "a field changed": lambda lines: edited(lines, 3, present=6),
    "a field added": lambda lines: edited(lines, 3, note="x"),
    "a learning rate changed": lambda lines: edited(lines, 3, lr="0.5"),
    "a line dropped": lambda lines: lines[:3] + lines[4:],
    "the first line dropped": lambda lines: lines[1:],
    "two lines swapped": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "a line repeated": lambda lines: [*lines[:4], *lines[3:]],
    "a chain value changed": lambda lines: edited(lines, 3, chain="0" * 64),
    "a chain value removed": lambda lines: [*lines[:3], b'{"kind":"step"}\n', *lines[4:]],
    "not JSON": lambda lines: [*lines[:3], b"{\n", *lines[4:]],
    "a float": lambda lines: [*lines[:3], b'{"lr":0.5}\n', *lines[4:]],
    "an empty line": lambda lines: [*lines[:3], b"\n", *lines[3:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_transcript_is_found(copy, edit):
    rewrite(copy, EDITS[edit])
    with pytest.raises(IntegrityError, match=r"line [0-4]"):
        read_transcript(copy)


def test_a_line_forged_with_a_new_chain_to_the_end_changes_the_digest(run, copy):
    """The chain alone cannot stop a forger who rewrites everything after; the digest in the log does."""

    def forge(lines):
        head, out = GENESIS, []
        for number, text in enumerate(lines):
            line = {key: value for key, value in json.loads(text).items() if key != "chain"}
            if number == 3:
                line["present"] = 6
            head = link(head, line)
            out.append(canonical({**line, "chain": head}) + b"\n")
        return out

    rewrite(copy, forge)
    assert len(read_transcript(copy)) > 15
    assert transcript_digest(copy) != transcript_digest(run[1].transcript)


def test_cut_off_lines_change_the_digest(run, copy):
    rewrite(copy, lambda lines: lines[:-1])
    assert transcript_digest(copy) != transcript_digest(run[1].transcript)


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_last_line_is_dropped_and_the_rest_stands(copy, kept):
    whole = read_transcript(copy)
    lines = copy.read_bytes().splitlines(keepends=True)
    copy.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    assert read_transcript(copy) == whole[:-1]


def test_an_empty_transcript_has_no_digest(tmp_path):
    (tmp_path / "t").write_bytes(b"")
    with pytest.raises(IntegrityError, match="empty"):
        transcript_digest(tmp_path / "t")


def test_rewind_keeps_a_prefix_that_goes_on_as_if_nothing_had_happened(run, copy, tmp_path):
    lines = read_transcript(copy)
    again = Transcript(copy)
    again.rewind(5)
    plain = [{key: value for key, value in line.items() if key != "chain"} for line in lines[5:]]
    again.extend(plain[:2])
    for line in plain[2:]:
        again.append(line)
    assert copy.read_bytes() == run[1].transcript.read_bytes()
    again.rewind(0)
    assert (again.head, copy.read_bytes()) == (GENESIS, b"")
    with pytest.raises(IntegrityError, match="shorter"):
        again.rewind(1)


def test_commitments_depend_on_order_where_they_should():
    leaves = ["aa" * 32, "bb" * 32, "cc" * 32]
    assert order_commitment(leaves) != order_commitment(leaves[::-1])
    assert order_commitment(leaves) != order_commitment(leaves[:2])
    assert receipt_root(leaves) == receipt_root(leaves[::-1])
    assert receipt_root(leaves) != receipt_root(leaves[:2])
