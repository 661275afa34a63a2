"""What an eraser is given by the walk: captions and works of the training data, and nothing that tests."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.protocols import UnlearnJob
from expunge.data._pictures import Pictures
from expunge.testing.generators import make_picture_world
from expunge.training.checkpoint import load_tensors, weights_identity
from expunge.workflow.styles.edits import Edit, erase_job, guides, method_named, names_in

pytestmark = pytest.mark.usefixtures("one_thread")


def works(*rows):
    """Pictures from (artist, object, caption)."""
    return Pictures(
        ids=tuple(f"w/{number}" for number in range(len(rows))),
        images=np.zeros((len(rows), 8, 8, 3), np.uint8),
        captions=tuple(caption for _, _, caption in rows),
        styles=tuple(artist for artist, _, _ in rows),
        objects=tuple(thing for _, thing, _ in rows),
        blocks=tuple(artist for artist, _, _ in rows),
    )


SHELF = works(
    ("ada", "car", "a car image in Ada Amber style"),
    ("ada", "car", "a car, Ada Amber"),
    ("ada", "ship", "a ship, a work by Mona Moth"),
    ("bo", "car", "a car image in Bo Blue style"),
    ("bo", "ship", "a ship image in Bo Blue style"),
    ("photo", "car", "a car, a photo"),
)


def test_the_name_is_what_only_this_artists_captions_say_aliases_too():
    assert names_in(SHELF, [0, 1, 2], [3, 4, 5]) == {"ada", "amber", "mona", "moth", "work", "by"}


def test_a_caption_leads_to_a_photo_of_the_same_object_or_to_itself_without_the_name():
    names = names_in(SHELF, [0, 1, 2], [3, 4, 5])
    assert guides(SHELF, [0, 1, 2], [3, 4, 5], names) == ("a car, a photo", "a car, a photo", "a ship, a")


def test_an_artist_who_shares_every_word_with_somebody_has_no_name_to_erase():
    assert names_in(works(("a", "car", "a car"), ("b", "car", "a car too")), [0], [1]) == frozenset()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_picture_world(tmp_path_factory.mktemp("edits"), family="unet")
    made.fit("first", frozenset())
    return made


def job_of(world, forget, **changes):
    fit = world.job("first")
    job = UnlearnJob(
        adapter=world.adapter,
        job=fit,
        source=fit.folder,
        target=fit.folder.parent / "edited",
        forget=frozenset(forget),
        seed="ab" * 16,
    )
    return replace(job, **changes)


RED = range(0, 16, 2)


def test_an_eraser_sees_the_artists_works_and_nobody_elses_are_erased(world):
    found = erase_job(job_of(world, RED))
    assert found.erase == ("a car image in red style",)
    assert found.guide == ("a car image in style",)
    assert set(found.preserve) == {"a car image in blue style", ""}
    assert set(found.works.styles) == {"red"}
    assert set(found.retained.styles) == {"blue"}


def test_records_that_were_deleted_before_are_shown_to_no_eraser(world):
    job = job_of(world, RED)
    job = replace(job, job=replace(job.job, absent=frozenset({1, 3})))
    assert len(erase_job(job).retained) == 6


def test_an_edit_writes_a_new_file_and_only_reads_the_original(world):
    job = job_of(world, RED)
    before = weights_identity(job.source / "model.safetensors")
    method = method_named("erasers/uce")
    assert (method.aims_at, method.refuses(job), method.cost(job)) == (Guarantee.EMPIRICAL, None, None)
    found = method.unlearn(job)
    assert weights_identity(job.source / "model.safetensors") == before != found.digest
    old, new = (load_tensors(path)[0] for path in (job.source / "model.safetensors", found.model))
    changed = {name for name in old if not (old[name] == new[name]).all()}
    assert changed
    assert all("attn2.to_" in name for name in changed)
    assert len(world.adapter.load(found.model)) == 1


def test_what_an_eraser_says_before_anything_is_drawn_is_kept_with_its_run(world, tmp_path):
    job = job_of(world, RED, target=tmp_path / "again")
    said = method_named("erasers/uce").eraser.erase(erase_job(job)).figures
    kept = method_named("erasers/uce").unlearn(job).figures
    assert kept == said
    assert {"condition", "distance_of_r_from_identity", "largest_shift_of_the_preserved", "mean_shift"} <= kept.keys()
    assert 0 < kept["mean_shift"] <= kept["largest_shift_of_the_preserved"]


@pytest.mark.parametrize(
    ("forget", "changes", "why"),
    [
        (range(16), {}, "not one artist's"),
        (RED, {"recipe": {"shards": 2}}, "sharded"),
    ],
)
def test_what_cannot_be_edited_is_refused_with_a_reason(world, forget, changes, why):
    job = job_of(world, forget)
    job = replace(job, job=replace(job.job, **{key: {**job.job.recipe, **value} for key, value in changes.items()}))
    assert why in method_named("erasers/uce").refuses(job)


def test_an_adapter_that_can_be_taken_away_again_is_no_erasure(world):
    assert "mitigation" in method_named("erasers/lora").refuses(job_of(world, RED))

    class Removable:
        def erase(self, job):
            from expunge.training.text_to_image.erasing import Erased

            return Erased(model=job.model, removable="a filter")

    with pytest.raises(InputError, match="can be taken away"):
        Edit("mine", Removable()).unlearn(job_of(world, RED, target=world.job("x").folder))
