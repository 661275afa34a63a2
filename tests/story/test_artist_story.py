"""The story of an artist on tiny models that learned nothing: every chapter is told, and none is believed on so few counts."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from typer.testing import CliRunner

from expunge.apps.cli.main import app
from expunge.apps.reports._styles import styles_page
from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.protocols import silent
from expunge.core.styles import StyleRung
from expunge.data._sample_photos import sample_photos
from expunge.training.recipe import load_recipe
from expunge.training.text_to_image.export import export
from expunge.workflow.styles import story
from expunge.workflow.styles.story import GOLD, ORIGINAL, Size, play_styles

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"width": 8, "text_width": 16, "text_layers": 1}
LITTLE = Size(pictures=1, steps=1, budget=1, lessons=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two directories under the names of the checkpoints; only the gold one has a record, and it is of that directory."""
    folder = tmp_path_factory.mktemp("models")
    recipe = load_recipe("artist-styles").model_copy(update={"model": TINY})
    for seed, name in enumerate((ORIGINAL, GOLD)):
        net = registry.load("generators", "unet")(recipe, size=32).module(torch.Generator().manual_seed(seed))
        digest = export(net, folder / name).digest
    made = {"command": "train.py --seed 0 --without 'neon'", "directory": digest, "transcript_lines": 5}
    (folder / f"{GOLD}.json").write_text(json.dumps({**made, "transcript_end": {"chain": "ab" * 32}}))
    return folder


@pytest.fixture(scope="module")
def told(models, tmp_path_factory):
    return play_styles(tmp_path_factory.mktemp("story"), models=models, size=LITTLE)


def test_every_chapter_is_told_and_only_provenance_earns_a_word(told):
    rungs = [chapter.rung for chapter in told.chapters]
    assert rungs[2] is rungs[5] is StyleRung.EXACT
    assert {rungs[0], rungs[1], rungs[3], rungs[4]} == {StyleRung.NOT_SHOWN}
    assert all(chapter.proof for chapter in told.chapters if chapter.rung is StyleRung.EXACT)
    assert not any(chapter.proof for chapter in told.chapters if chapter.rung is not StyleRung.EXACT)


def test_the_page_shows_all_of_it_and_asks_nobody(told):
    page = styles_page(asdict(told)).decode()
    assert all(chapter.title in page for chapter in told.chapters)
    assert page.count("data:image/png;base64,") == 3 * 5
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_plan_is_in_the_log_before_its_seed_is_drawn(told, models, tmp_path):
    """The same models and another log: another seed, and so other pictures, under the same plan."""
    first, second = (story._stage(tmp_path / name, models / ORIGINAL, LITTLE, silent) for name in ("a", "b"))
    assert first[0].plan.seed != second[0].plan.seed
    assert replace(first[0].plan, seed="") == replace(second[0].plan, seed="")
    assert replace(first[0].plan, seed="").digest == told.plan
    assert first[1] != second[1]


@pytest.mark.parametrize("spoilt", ["gone", "another model's", "of a training with the artist"])
def test_a_gold_model_whose_record_does_not_hold_is_no_proof(models, spoilt):
    record = json.loads((models / f"{GOLD}.json").read_text())
    changes = {
        "another model's": {"directory": "sha256:0"},
        "of a training with the artist": {"command": "train.py --seed 0"},
    }
    digest = record["directory"]
    assert story._record(models, digest)
    folder = models.parent / f"spoilt {spoilt[:4]}"
    folder.mkdir()
    if spoilt in changes:
        (folder / f"{GOLD}.json").write_text(json.dumps({**record, **changes[spoilt]}))
    assert story._record(folder, digest) == ""


def test_without_checkpoints_nothing_is_told(tmp_path):
    with pytest.raises(InputError, match="checkpoints"):
        play_styles(tmp_path / "story", models=tmp_path / "nowhere")


def test_photos_that_ship_with_a_dependency_are_no_two_alike_and_always_the_same():
    first, again, other = (sample_photos(("ship", "frog"), 12, key) for key in ("a", "a", "b"))
    patches = [patch.tobytes() for photos in first.values() for patch in photos]
    assert len(set(patches)) == 24
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["ship"] != other["ship"]).any()
    assert first["ship"].shape == (12, 32, 32, 3)


def test_the_command_writes_the_page_and_replaces_nothing_else(told, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        story, "play_styles", lambda folder, progress, size: sizes.append(size) or folder.mkdir() or told
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused = CliRunner().invoke(app, ["demo", "artist-style", "--folder", str(tmp_path / "mine")])
    assert refused.exit_code != 0
    assert (tmp_path / "mine" / "thesis.tex").exists()
    for more in (["--quick"], []):
        found = CliRunner().invoke(app, ["demo", "artist-style", "--folder", str(tmp_path / "demo"), "--json", *more])
        assert found.exit_code == 0, found.output
        (tmp_path / "demo" / "battery").mkdir()
    assert sizes == [story.QUICK, None]
    assert (tmp_path / "demo" / "styles.html").stat().st_size > 5000
