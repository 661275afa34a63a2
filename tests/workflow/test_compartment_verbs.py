"""An artist's adapter over a workspace's model: each state is in the log, so an old directory cannot come back unseen."""

import json
import shutil

import pytest

from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.training.text_to_image.compartments.records import BASE, MANIFEST, Teaching, read_manifest
from expunge.training.transcript import Transcript, read_transcript
from expunge.workflow.styles import compartments
from picture_files import ARTISTS, make_works

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = Teaching(steps=2, batch=4)
NEW = "Di Dun"


def works_by(artist, folder, source):
    """The pictures of the second artist under another name, with every pixel changed a little."""
    import numpy as np
    from PIL import Image

    shutil.copytree(source, folder)
    index = folder / "train" / "metadata.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    mine = [line | {"artist": artist} for line in lines if line["artist"] == ARTISTS[1]]
    for line in mine:
        file = folder / "train" / line["file_name"]
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    index.write_text("".join(json.dumps(line) + "\n" for line in mine))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compartments")
    with make_works(folder / "ws") as workspace:
        works_by(NEW, folder / "new", folder / "works")
        works_by("Ed Ebony", folder / "other", folder / "works")
        yield workspace, folder


@pytest.fixture
def taught(home, tmp_path):
    workspace, folder = home
    compartments.begun(workspace, tmp_path / "model")
    compartments.taught(workspace, tmp_path / "model", folder / "new", NEW, FEW)
    return workspace, tmp_path / "model"


def test_a_dropped_adapter_leaves_the_base_and_nothing_else(taught, tmp_path):
    workspace, folder = taught
    shutil.copytree(folder, tmp_path / "backup")
    before = read_manifest(folder)
    ended = compartments.dropped(workspace, folder, NEW, tmp_path / "left")
    assert ended.dropped.base == before.base.digest
    assert read_manifest(tmp_path / "left").adapters == ()
    assert not folder.exists(), "the old directory holds the adapter"
    assert compartments.current(workspace, tmp_path / "left").digest == ended.dropped.after
    logged = [entry for entry in workspace.log.entries() if entry.kind.startswith("compartments.")][-1]
    assert logged.payload["weights"] == before.of(NEW).weights
    assert NEW not in json.dumps([dict(entry.payload) for entry in workspace.log.entries()])

    # attack: the directory from before is put back, and drawn from or taught on
    with pytest.raises(IntegrityError, match="older state"):
        compartments.current(workspace, tmp_path / "backup")
    with pytest.raises(IntegrityError, match="older state"):
        compartments.taught(workspace, tmp_path / "backup", tmp_path, "anybody", FEW)
    assert compartments.finish(workspace, tmp_path / "backup") > 3
    with pytest.raises(InputError, match="current one"):
        compartments.finish(workspace, tmp_path / "left")


def test_a_manifest_written_by_hand_is_in_no_entry(taught):
    """Attack: the owner takes a record out of the manifest, and with it the adapter's file: it looks dropped."""
    workspace, folder = taught
    plain = json.loads((folder / MANIFEST).read_bytes())
    plain["adapters"][0]["saw"]["source"] = "somebody else"
    (folder / MANIFEST).write_text(json.dumps(plain))
    with pytest.raises((IntegrityError, InputError)):
        compartments.dropped(workspace, folder, NEW, folder.with_name("left"))
    assert not folder.with_name("left").exists()


def test_an_artist_the_base_saw_is_not_taught_and_not_dropped(taught, home):
    workspace, folder = taught
    with pytest.raises(InputProblems, match="not be exact"):
        compartments.taught(workspace, folder, home[1] / "works", ARTISTS[0], FEW)
    with pytest.raises(InputError, match="trained on the artist"):
        compartments.dropped(workspace, folder, ARTISTS[0], folder.with_name("left"))


def test_a_model_that_nobody_saw_being_trained_is_no_base(home, tmp_path):
    """Attack: an edited or adopted model, which may have seen the artist, as the base that never saw them."""
    workspace, _ = home
    transcript = workspace.root / workspace.served().run / "transcript.jsonl"
    kept = transcript.read_bytes()
    transcript.unlink()
    try:
        with pytest.raises(InputError, match="nobody can say"):
            compartments.begun(workspace, tmp_path / "model")
    finally:
        transcript.write_bytes(kept)
    assert not (tmp_path / "model").exists()


def test_a_model_that_was_trained_on_from_another_is_no_base(home, tmp_path):
    """Attack: fine-tuned without the artist, from weights that saw the artist."""
    workspace, _ = home
    transcript = workspace.root / workspace.served().run / "transcript.jsonl"
    kept = transcript.read_bytes()
    lines = read_transcript(transcript)
    transcript.unlink()
    Transcript(transcript).extend(
        [
            {**{key: value for key, value in line.items() if key != "chain"}, **more}
            for line, more in zip(lines, [{"from": "sha256:" + "ab" * 32}, *[{}] * (len(lines) - 1)], strict=True)
        ]
    )
    try:
        with pytest.raises(InputError, match="trained on from another"):
            compartments.begun(workspace, tmp_path / "model")
    finally:
        transcript.write_bytes(kept)
    assert not (tmp_path / "model").exists()


def test_the_new_directory_is_not_destroyed_with_the_old_one(taught):
    """Attack on oneself: the target lies inside the directory that is overwritten afterwards."""
    workspace, folder = taught
    for target in (folder, folder / "new", folder / ".." / folder.name / "new"):
        with pytest.raises(InputError, match="destroyed with the old one"):
            compartments.dropped(workspace, folder, NEW, target)
    assert compartments.current(workspace, folder)


def test_a_changed_base_is_refused(taught):
    """Attack: the adapter merged into the base, and its file dropped."""
    workspace, folder = taught
    config = folder / BASE / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(IntegrityError, match="base"):
        compartments.dropped(workspace, folder, NEW, folder.with_name("left"))


def test_the_verbs_say_what_was_done(home, tmp_path, capsys):
    import re

    from typer.testing import CliRunner

    from expunge.apps.cli.main import app

    workspace, folder = home
    workspace.close()
    run, root = CliRunner(), ["-w", str(workspace.root)]
    model, left = str(tmp_path / "model"), str(tmp_path / "left")
    steps = (
        ("begin", model),
        ("teach", model, "Ed Ebony", "--works", str(folder / "other"), "--steps", "2"),
        ("check", model),
        ("drop", model, "Ed Ebony", "--to", left),
        ("check", left),
    )
    said = []
    for step in steps:
        done = run.invoke(app, ["compartment", *step, *root], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        said.append(re.sub(r"\s+", " ", done.output))
    assert "1 adapters" in said[2]
    assert "EXACT, as logged by the owner" in said[3]
    assert "Not covered: copies" in said[3]
    assert "0 adapters" in said[4]
