"""Who trains on what: complements, blocks that travel together, anchors; and nothing that a deletion could move."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import InputProblems, IntegrityError
from expunge.farm.bank import DESIGN, Bank, BankSpec
from expunge.farm.tasks import key_of

RECIPE = {"name": "t", "family": "mlp", "epochs": 2, "batch": 64, "lr": 0.1}
BLOCKS = tuple(["user-a"] * 3 + ["user-b"] * 2 + ["canary"] * 5 + [f"single-{n}" for n in range(390)])


def spec(**changes):
    plain = {"recipe": RECIPE, "data": {"source": "digits", "options": {}}, "seed": "s", "pairs": 6}
    return BankSpec(**{**plain, **changes})


def bank(tmp_path, blocks=BLOCKS, **changes):
    return Bank(spec(**changes), tmp_path, blocks)


NAMES = st.lists(st.integers(0, 12).map(lambda n: f"b{n:02d}"), min_size=4, max_size=40)


@settings(max_examples=60)
@given(blocks=NAMES, pairs=st.integers(2, 5), data=st.data())
def test_pairs_are_complements_and_blocks_travel_together(tmp_path_factory, blocks, pairs, data):
    gone = data.draw(st.sets(st.integers(0, len(blocks) - 1), max_size=3))
    mine = Bank(spec(pairs=pairs, tombstones=tuple(gone)), tmp_path_factory.getbasetemp() / "unused", blocks)
    inside = mine.inside()
    assert inside.shape == (2 * pairs, len(blocks))
    present = np.array([slot not in gone for slot in range(len(blocks))])
    for pair in range(pairs):
        assert (inside[2 * pair] ^ inside[2 * pair + 1]).tolist() == present.tolist()
    for block in set(blocks):
        slots = [slot for slot, name in enumerate(blocks) if name == block and slot not in gone]
        assert (inside[:, slots] == inside[:, slots[:1]]).all()
    alive = {name for slot, name in enumerate(blocks) if slot not in gone}
    for model in inside:
        taken = {name for slot, name in enumerate(blocks) if model[slot]}
        assert len(taken) in (len(alive) // 2, -(-len(alive) // 2)), "exactly half of the blocks"


def test_every_block_is_in_one_model_of_each_pair(tmp_path):
    mine = bank(tmp_path)
    assert (mine.inside().sum(0) == 6).all()
    for slots in ([0, 1, 2], [17]):
        for out, into in mine.sides(slots):
            assert out // 2 == into // 2
            assert mine.inside()[into, slots].all()
            assert not mine.inside()[out, slots].any()
            assert set(slots) <= set(mine.slots_of("bank", into))


def test_pairs_are_drawn_independently(tmp_path):
    """Two singles share a side in about half of 200 pairs; the same halves again and again would be no bank."""
    inside = bank(tmp_path, pairs=200).inside()[::2]
    together = (inside[:, 10] == inside[:, 11]).mean()
    assert 0.35 < together < 0.65
    assert len({row.tobytes() for row in inside}) == 200


def test_anchors_leave_monitored_blocks_out_of_exactly_half_and_others_out_of_a_tenth(tmp_path):
    mine = bank(tmp_path, anchors=20, monitored=("canary", "user-a"))
    inside = mine.inside("anchors")
    assert inside.shape == (20, 400)
    for slots in (range(5, 10), range(3)):
        assert (inside[:, list(slots)].sum(0) == 10).all()
        assert (inside[:, list(slots)] == inside[:, [slots[0]]]).all()
    ordinary = [3, *range(10, 400)]  # one slot a block
    assert (len(ordinary) - inside[:, ordinary].sum(1) == len(ordinary) // 10).all()
    assert not np.array_equal(inside[:, 0], inside[:, 5]), "two monitored blocks are left out independently"


def test_no_anchors_is_an_empty_design(tmp_path):
    assert bank(tmp_path).inside("anchors").shape == (0, 400)


def test_design_depends_on_spec_and_blocks_and_on_nothing_else(tmp_path):
    first, second = bank(tmp_path / "a", anchors=4), bank(tmp_path / "b", anchors=4)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    for kind in ("bank", "anchors"):
        assert np.array_equal(first.inside(kind), second.inside(kind))
    assert not np.array_equal(first.inside(), bank(tmp_path, seed="t").inside())
    more = bank(tmp_path, pairs=9).inside()
    assert np.array_equal(more[:12], first.inside()), "a larger bank continues a smaller one"


def test_design_and_digest_are_unchanged_after_an_erasure(tmp_path):
    """The erased block is one the anchors monitor, and its name is gone from the slot book."""
    before = bank(tmp_path, anchors=4, monitored=("user-a",))
    before._save_design()
    blank = tuple("" if block == "user-a" else block for block in BLOCKS)
    after = bank(tmp_path, blocks=blank, anchors=4, monitored=("user-a",))
    for kind in ("bank", "anchors"):
        assert np.array_equal(before.inside(kind), after.inside(kind))
    assert before.spec.digest == after.spec.digest
    assert [key_of(t) for t in before.tasks("bank")] == [key_of(t) for t in after.tasks("bank")]
    without = bank(tmp_path / "elsewhere", blocks=blank)
    assert not np.array_equal(before.inside(), without.inside()), "control: a new design would be another one"


def test_design_file_that_is_damaged_is_refused(tmp_path):
    mine = bank(tmp_path)
    mine._save_design()
    file = tmp_path / DESIGN
    assert file.stat().st_mode & 0o077 == 0, "membership is personal data"
    raw = file.read_bytes()
    for damage in (raw[:100], b"", b"PK" + raw[2:-50], b"not a zip"):
        file.write_bytes(damage)
        with pytest.raises(IntegrityError):
            mine.inside()


REFUSED = {
    "part of a block": ([0, 1], "part of a block"),
    "several blocks": ([0, 1, 2, 3, 4], "2 blocks"),
    "a single and a part": ([0, 20], "2 blocks"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bank_refuses_what_it_cannot_judge(tmp_path, case):
    slots, said = REFUSED[case]
    assert said in bank(tmp_path).refuses(slots)


@pytest.mark.parametrize("slots", [[0, 1, 2], [2, 0, 1], [3, 4], [399]])
def test_bank_judges_a_whole_block_in_any_order(tmp_path, slots):
    assert bank(tmp_path).refuses(slots) is None


@pytest.mark.parametrize(
    ("works", "total", "judged"), [(4, 400, True), (5, 400, False), (1, 100, True), (1, 99, False)]
)
def test_a_bank_of_works_has_no_allowance_for_small_blocks(tmp_path, works, total, judged):
    blocks = ("artist",) * works + tuple(f"single-{n}" for n in range(total - works))
    asked = {"source": "picture_folder", "options": {}, "small_block": 0}
    reason = bank(tmp_path, blocks=blocks, data=asked).refuses(list(range(works)))
    assert judged == (reason is None)
    assert judged or f"the block holds {works} of {total} records, over 1 %" in reason
    assert bank(tmp_path, blocks=blocks).refuses(list(range(works))) is None  # of images 20 records are small


@pytest.mark.parametrize(
    ("block", "total", "judged"),
    [
        (20, 400, True),
        (21, 400, False),
        (20, 1438, True),  # the embedded demo's canaries
        (21, 1438, False),
        (20, 2000, True),
        (21, 2000, False),
        (21, 2100, True),
        (500, 50_000, True),
        (501, 50_000, False),
        (1000, 50_000, False),
    ],
)
def test_bank_refuses_a_block_over_one_percent_unless_it_is_small(tmp_path, block, total, judged):
    blocks = ("big",) * block + tuple(f"single-{n}" for n in range(total - block))
    reason = bank(tmp_path, blocks=blocks).refuses(list(range(block)))
    assert (reason is None) == judged
    assert judged or f"{block} of {total} records" in reason


def test_erased_records_do_not_count_towards_the_share(tmp_path):
    blocks = ("big",) * 21 + tuple(f"single-{n}" for n in range(2079))
    gone = bank(tmp_path, blocks=blocks, tombstones=(2099,))
    assert gone.total == 2099
    assert "too many" in gone.refuses(list(range(21)))


def test_problems_of_a_bank_are_reported_at_once(tmp_path):
    with pytest.raises(InputProblems) as caught:
        bank(tmp_path, pairs=1, recipe={**RECIPE, "bank_inclusion": "0.3"}, monitored=("nobody", "canary"))
    text = " ".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    assert "nobody" in text
    assert "canary" not in text


def test_digest_of_a_bank_changes_with_everything_that_fixes_it():
    changes = {
        "recipe": {**RECIPE, "lr": 0.2},
        "data": {"source": "digits", "options": {"canaries": 3}},
        "seed": "t",
        "pairs": 7,
        "anchors": 1,
        "monitored": ("canary",),
        "tombstones": (3,),
    }
    assert set(changes) == set(BankSpec.__dataclass_fields__), "a new field must be tried here too"
    digests = {replace(spec(), **{name: value}).digest for name, value in changes.items()}
    assert len(digests | {spec().digest}) == len(changes) + 1


def test_members_have_keys_of_their_own(tmp_path):
    mine = bank(tmp_path, anchors=3)
    keys = Counter(key_of(task) for kind in ("bank", "anchors") for task in mine.tasks(kind))
    assert len(keys) == 15
    assert set(keys.values()) == {1}


# -------------------------------------------------------------------------------------------------- what can be logged


def test_design_digest_is_of_the_membership_and_survives_an_erasure(tmp_path):
    mine = bank(tmp_path, anchors=4)
    unbuilt = mine.design_digest()
    mine._save_design()
    assert mine.design_digest() == unbuilt
    assert unbuilt.startswith("sha256:")
    blank = tuple("" if block == "user-a" else block for block in BLOCKS)
    assert bank(tmp_path, blocks=blank, anchors=4).design_digest() == unbuilt
    others = [{"seed": "t"}, {"pairs": 7}, {"anchors": 5}, {"monitored": ("canary",)}, {"tombstones": (9,)}]
    found = {bank(tmp_path / str(n), **{"anchors": 4, **change}).design_digest() for n, change in enumerate(others)}
    assert len(found | {unbuilt}) == 6


def test_design_digest_finds_a_design_file_with_one_bit_changed(tmp_path):
    mine = bank(tmp_path, anchors=4)
    mine._save_design()
    logged = mine.design_digest()
    for kind in ("bank", "anchors"):
        arrays = {name: mine.inside(name) for name in ("bank", "anchors")}
        arrays[kind] = arrays[kind].copy()
        arrays[kind][1, 399] ^= True
        file = tmp_path / "other" / kind
        file.mkdir(parents=True)
        np.savez_compressed(file / DESIGN, **arrays)
        assert bank(file, anchors=4).design_digest() != logged


def test_a_bank_whose_folder_does_not_exist_is_only_a_design(tmp_path):
    mine = bank(tmp_path / "nowhere", anchors=2)
    assert mine.inside().shape == (12, 400)
    assert mine.sketch_digests() == {}
    assert mine.forget([3]) == 0
    assert not (tmp_path / "nowhere").exists()
