"""What an eraser is given by the walk: captions and works of the training data, and nothing that tests."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.protocols import UnlearnJob
from expunge.data._pictures import Pictures
from expunge.stats.recovery import fewest_seeds
from expunge.stats.spending import LEVEL, limit_level
from expunge.testing.generators import make_picture_world
from expunge.training.checkpoint import load_tensors, weights_identity
from expunge.workflow.config import StylesTable
from expunge.workflow.styles import evidence
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan
from expunge.workflow.styles.edits import Edit, erase_job, guides, method_named, names_in
from testbed import arms

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


# ----------------------------------------------------------------------------------------------- how an attempt is asked


@pytest.mark.parametrize("attempt", [1, 2, 4])
def test_a_later_edit_is_asked_with_seeds_enough_to_pass_its_level(attempt):
    workspace = SimpleNamespace(config=SimpleNamespace(styles=StylesTable()))
    material = SimpleNamespace(target="neon", controls=tuple("abcd"), objects=("ship",))

    def seeds(aims_at):
        plan = SimpleNamespace(aims_at=aims_at, attempt=attempt)
        return evidence._battery(
            workspace, material, plan, "ab", [SimpleNamespace(name="cnn", digest="sha256:0")], limit_level(attempt)
        ).seeds

    assert seeds(Guarantee.EXACT) == StylesTable().seeds
    assert seeds(Guarantee.EMPIRICAL) == fewest_seeds(40, limit_level(attempt)) > StylesTable().seeds


@pytest.mark.parametrize(("level", "asked"), [(LEVEL, 1), (limit_level(3), 2)])
def test_attack_a_later_edit_is_not_let_off_as_never_learned_by_a_kinder_limit(level, asked):
    """9 of 320 pictures of the original: at most 4.9 % at 95 %, and more than 5 % at the level of a third attempt."""
    probes = tuple(ProbePlan(label=label, probe=label) for label in ("direct", "reworded", "textual_inversion"))
    plan = BatteryPlan(
        target="neon", controls=tuple("abcd"), objects=("ship",), judges={"cnn": "sha256:0"}, seed="ab", probes=probes
    )
    calls = []

    def answers(plan):
        calls.append(plan)
        found = arms(0, seeds=8)
        original = arms([2] + [1] * 7, seeds=8).original
        return {probe.label: replace(found, original=original) for probe in plan.probes}

    evidence._by_name_first(plan, answers, 0.0, level)
    assert len(calls) == asked
