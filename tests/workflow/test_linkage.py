import json
from dataclasses import replace

import numpy as np
import pytest

from expunge import Workspace
from expunge.checks.linkage import Linkage
from expunge.core.finding import Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob, Guarantee, HasWhiteBox
from expunge.data._near import Rule
from expunge.data._records import Dataset, ImageRecords
from expunge.data._twins import TWINS
from expunge.data.digits import Digits
from expunge.farm.opened import forget
from expunge.training.recipe import load_recipe, parse_recipe
from expunge.workflow import linkage
from expunge.workflow.intake import resolve
from expunge.workflow.linkage import FILE, linkage_of, search
from expunge.workflow.policy import DEFAULT
from pictures import pictures
from workspaces import vouch_for

TRAIN, TEST = 60, 20
POLICY = DEFAULT.replace("utility: must_not_fail", "utility: report")  # 20 test pictures resolve nothing
COPIES = {"reencoded": 30, "cropped": 31, "mirrored": 32}  # of slot 3, in other people's slots


def dataset(copies=COPIES, test_copies=("shifted",)):
    """60 training pictures in 4 classes and 20 test pictures; edited copies of slot 3 stand in other slots."""
    images, rng = pictures(TRAIN + TEST, 16, 1), np.random.default_rng(4)
    for name, slot in copies.items():
        images[slot] = TWINS[name](images[3], rng)
    for row, name in enumerate(test_copies):
        images[TRAIN + row] = TWINS[name](images[3], rng)
    return _dataset(images)


def _dataset(images):
    labels = np.arange(len(images)) % 4

    def part(split, rows):
        ids = tuple(f"{split}/{labels[row]}/{row:04d}" for row in rows)
        return ImageRecords(ids=ids, images=images[rows], labels=labels[rows], blocks=ids)

    return Dataset(
        source="digits", note="pictures", classes=("0", "1", "2", "3"),
        train=part("train", np.arange(TRAIN)), test=part("test", np.arange(TRAIN, len(images))),
    )  # fmt: skip


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """A function that makes a trained workspace of a data set."""
    forget()
    spaces = []

    def make(data):
        monkeypatch.setattr(Digits, "open", lambda self: data)
        config = {
            "data": {"source": "digits", "options": {"canaries": 0}},
            "model": {"seed": "00112233445566778899aabbccddeeff"},
            "compute": {"executor": "inline"},
        }
        recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 4, "batch": 16, "final_lr": 0.1})
        workspace = Workspace.create(tmp_path / f"ws{len(spaces)}", config=config, recipe=recipe, policy=POLICY)
        spaces.append(workspace)
        workspace.train()
        vouch_for(workspace)
        return workspace

    yield make
    for workspace in spaces:
        workspace.close()
    forget()


def asked(workspace, *slots):
    case = workspace.request(ids=[workspace.book.ids[slot] for slot in slots])
    return case, resolve(workspace, case)


def judged(found):
    return Linkage().run(CheckJob(limits=Limits(), guarantee=Guarantee.EXACT, seed=1, linkage=found))


def test_a_re_encoded_copy_left_behind_is_found(opened):
    """The attack: delete the picture, keep it saved again, cut or mirrored under another id."""
    workspace = opened(dataset())
    _, resolution = asked(workspace, 3)
    links = search(workspace, resolution)
    assert resolution.copies == ()
    assert links.outside == (30, 31, 32)
    assert links.test == (0,)
    assert judged(links.counted).verdict is Verdict.INCONCLUSIVE


def test_a_record_without_copies_passes(opened):
    workspace = opened(dataset())
    _, resolution = asked(workspace, 5)
    found = linkage_of(workspace, resolution)
    assert (found.inside, found.outside, found.test) == (0, 0, 0)
    assert judged(found).verdict is Verdict.PASS


def test_copies_named_in_the_request_are_inside(opened):
    workspace = opened(dataset())
    _, resolution = asked(workspace, 3, 30, 31)
    links = search(workspace, resolution)
    assert (links.inside, links.outside) == ((3, 30, 31), (32,))


def test_exact_copies_in_the_test_split_are_found_and_reported(opened):
    """The earlier gap: only training records were compared."""
    data = dataset(copies={})
    data.test.images[7] = data.train.images[3]
    workspace = opened(data)
    case, resolution = asked(workspace, 3)
    assert resolution.copies == ()
    assert resolution.test_copies == (7,)
    assert search(workspace, resolution).test == (0, 7)
    workspace.run(case, ["retrain"])
    logged = next(e.payload for e in workspace.log.case(case.handle) if e.kind == "request.resolved")
    assert logged["copies_in_test"] == 1
    assert logged["linkage"]["test"] == 2


def test_somebody_elses_near_duplicate_is_not_deleted(opened):
    """Closure refers to a person; it deletes nothing and publishes no id."""
    workspace = opened(dataset())
    names = [workspace.book.ids[slot] for slot in COPIES.values()]
    case, _ = asked(workspace, 3)
    outcome = workspace.run(case, ["retrain"])
    assert outcome.certificate is not None
    assert [workspace.book.ids[slot] for slot in COPIES.values()] == names
    assert workspace.book.tombstones == {3}
    entries = [e for e in workspace.log.case(case.handle) if e.kind == "request.resolved"]
    assert entries[0].payload["linkage"]["outside"] == 3
    assert not any(name in json.dumps(dict(entries[0].payload)) for name in names)


def test_the_person_who_decides_finds_the_names_in_the_private_folder_until_the_case_closes(opened):
    workspace = opened(dataset())
    case, resolution = asked(workspace, 3)
    linkage.log_links(workspace, case, resolution)
    file = case.private / "near-duplicates.json"
    named = json.loads(file.read_bytes())
    assert named["outside"] == [workspace.book.ids[slot] for slot in COPIES.values()]
    assert file.stat().st_mode & 0o777 == 0o600
    workspace.run(case, ["retrain"])
    assert not file.exists()


def test_the_index_is_private_reused_and_gone_with_the_model(opened, monkeypatch):
    """A hash of a picture says which picture it was, so it may not outlive the record."""
    workspace = opened(dataset())
    _, resolution = asked(workspace, 3)
    first = search(workspace, resolution)
    (file,) = workspace.root.rglob(FILE)
    assert file.stat().st_mode & 0o777 == 0o600
    made = []
    monkeypatch.setattr(linkage, "write_sketch", lambda *args: made.append(args))
    assert search(workspace, resolution) == first
    assert made == []
    monkeypatch.undo()
    case, _ = asked(workspace, 3)
    workspace.run(case, ["retrain"])
    assert list(workspace.root.rglob(FILE)) == []


def test_an_erased_record_is_never_found_again(opened):
    workspace = opened(dataset())
    case, _ = asked(workspace, 30)
    workspace.run(case, ["retrain"])
    _, resolution = asked(workspace, 3)
    links = search(workspace, resolution)
    assert links.outside == (31, 32)
    (file,) = workspace.root.rglob(FILE)
    with np.load(file) as arrays:
        assert arrays["hashes"][30] == 0
        assert not arrays["of pixels"][30].any()


def test_a_damaged_or_foreign_index_is_made_again(opened):
    workspace = opened(dataset())
    _, resolution = asked(workspace, 3)
    first = search(workspace, resolution)
    (file,) = workspace.root.rglob(FILE)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert search(workspace, resolution) == first
    with np.load(file) as arrays:
        kept = {**arrays}
    np.savez(file, **{**kept, "hashes": np.zeros_like(kept["hashes"]), "key": np.array("sha256:other")})
    assert search(workspace, resolution) == first


def test_recall_is_measured_on_the_request_itself_and_repeats(opened):
    workspace = opened(dataset())
    _, resolution = asked(workspace, 5, 9)
    first, again = linkage_of(workspace, resolution), linkage_of(workspace, resolution)
    assert first == again
    assert first.recall[1] == linkage.PLANTED
    assert first.recall[0] >= 0.9 * linkage.PLANTED
    assert first.thresholds["hash_agree"] == "8"
    assert set(first.thresholds) >= {"pixels_agree", "pixels_alone", "features_agree", "features_rate", "false_links"}


def test_a_blind_search_shows_in_its_recall(opened, monkeypatch):
    """The attack: a search that finds nothing, and so never anybody's copy."""
    nothing = Rule(hash_agree=-1, hash_alone=-1, agree={"pixels": 2.0}, alone={"pixels": 2.0})
    monkeypatch.setattr(linkage, "ORDINARY", replace(linkage.ORDINARY, rule=nothing))
    workspace = opened(dataset())
    _, resolution = asked(workspace, 3)
    found = linkage_of(workspace, resolution)
    assert (found.outside, found.recall[0]) == (0, 0)
    assert judged(found).verdict is Verdict.INCONCLUSIVE


def test_records_that_are_no_pictures_are_not_searched(opened):
    images = pictures(TRAIN + TEST, 16, 1)[:, :4, :4]
    workspace = opened(_dataset(np.ascontiguousarray(images)))
    _, resolution = asked(workspace, 3)
    assert linkage_of(workspace, resolution) is None
    assert judged(None).verdict is Verdict.UNVERIFIABLE


class Blind:
    """An adapter whose insides cannot be read."""

    def __init__(self, inner):
        self.inner = inner


class White:
    """An adapter whose insides can be read; two pictures have the same features where their left corners agree."""

    def __init__(self, inner):
        self.inner = inner

    def load(self, path):
        assert path.name == "model.safetensors"
        return "model"

    def features(self, model, images):
        assert model == "model"
        rng = np.random.default_rng(0)
        table = rng.standard_normal((256, 256, 16)).astype(np.float32)
        return table[images[:, 0, 0, 0], images[:, -1, 0, 0]]

    def gradients(self, model, images, labels, *, project=0, seed=0): ...
    def gradient_norms(self, model, images, labels): ...
    def curvatures(self, model, images, labels, *, probes=8, seed=0): ...
    def flat_weights(self, model): ...


def test_features_of_the_served_model_vote_where_the_family_lets_them_be_read(opened, monkeypatch):
    """A copy that the pixels alone do not give away: the hash agrees, the picture is faded at one side."""
    data = dataset(copies={})
    fade = np.linspace(1, 0.25, 16)[None, :, None]
    data.train.images[40] = (data.train.images[3] * fade).astype(np.uint8)
    workspace = opened(data)
    _, resolution = asked(workspace, 3)
    rule = replace(linkage.ORDINARY.rule, agree={"pixels": 0.97})
    # of 80 pictures, one pair in ten thousand is the pair itself
    monkeypatch.setattr(linkage, "ORDINARY", replace(linkage.ORDINARY, rule=rule, features_rate=0.01))
    white = workspace.adapter
    workspace.__dict__["adapter"] = Blind(white)
    found = linkage_of(workspace, resolution)
    assert found.outside == 0
    assert "features_agree" not in found.thresholds
    workspace.__dict__["adapter"] = White(white)
    assert isinstance(workspace.adapter, HasWhiteBox)
    links = search(workspace, resolution)
    assert links.outside == (40,)
    assert 0 < float(links.thresholds["features_agree"]) <= 1
    assert links.thresholds["features_rate"] == "0.01"
