"""Works that come back as such are counted, and pictures that only share a style with them are not."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.core.errors import CheckBroken, InputError
from expunge.core.finding import Verdict
from expunge.data._pictures import Pictures
from expunge.training.rng import seed_number
from expunge.training.text_to_image.sampler import Sampling
from expunge.workflow.styles.extraction import Claim, Nearness, extract, tiled_distances
from pictures import pictures

HOW = Sampling(seed="ab", steps=1)
SIDE = 16


def works(name, images):
    count = len(images)
    return Pictures(
        ids=tuple(f"{name}/{number}" for number in range(count)),
        images=images,
        captions=tuple(f"{name} {number}" for number in range(count)),
        styles=("red",) * count,
        objects=("car",) * count,
        blocks=("red",) * count,
    )


@pytest.fixture(scope="module")
def claim():
    drawn = pictures(30, SIDE, seed=1)
    return Claim(
        claimed=works("claimed", drawn[:4]), unseen=works("unseen", drawn[4:8]), reference=works("r", drawn[8:])
    )


class Drawing:
    """A model whose pictures are its own, except for `stolen`: caption -> the work that every tenth picture is."""

    def __init__(self, stolen=None, strength=10.0):
        self.stolen, self.strength = stolen or {}, strength

    def sample(self, prompts, how):
        number = seed_number(how.seed) % 2**31
        found = pictures(len(prompts), SIDE, seed=number)
        work = self.stolen.get(prompts[0])
        if work is not None:
            rng = np.random.default_rng(number)
            noise = rng.normal(0, self.strength, found[::10].shape)
            found[::10] = np.clip(work + noise, 0, 255).astype(np.uint8)
        return found


class Spoilt:
    """Attack: a model, or one step of drawing, that gives noise or black: no work comes back from it, and no picture does."""

    def __init__(self, kind):
        self.kind = kind

    def sample(self, prompts, how):
        shape = (len(prompts), SIDE, SIDE, 3)
        if self.kind == "black":
            return np.zeros(shape, np.uint8)
        return np.random.default_rng(seed_number(how.seed) % 2**31).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", ["black", "noise"])
def test_a_model_that_draws_nothing_is_not_shown_to_copy_nothing(claim, kind):
    found = extract(Spoilt(kind), claim, HOW, pictures=200)
    assert (found.verdict, found.copies) == (Verdict.UNVERIFIABLE, 0)
    assert "flat or noise" in found.reason


def test_a_model_that_gives_works_back_is_caught_with_the_works_named(claim):
    model = Drawing({"claimed 2": claim.claimed.images[2]})
    found = extract(model, claim, HOW, pictures=40)
    assert found.verdict is Verdict.FAIL
    assert (found.copies, found.pictures, found.works_copied) == (4, 160, ("claimed/2",))
    assert 4 / 160 < found.at_most < 0.07
    assert {(one.caption_of, one.work, one.number % 10) for one in found.nearest if one.copy} == {
        ("claimed/2", "claimed/2", 0)
    }


def test_a_model_with_pictures_of_its_own_passes_with_a_limit(claim):
    found = extract(Drawing(), claim, HOW, pictures=40)
    assert (found.verdict, found.copies, found.control_copies, found.planted) == (Verdict.PASS, 0, 0, 1.0)
    assert found.at_most == pytest.approx(1 - 0.05 ** (1 / 160))
    assert len(found.nearest) == 5


def test_a_copy_that_comes_by_another_works_caption_counts(claim):
    model = Drawing({"claimed 0": claim.claimed.images[3]})
    assert extract(model, claim, HOW, pictures=10).works_copied == ("claimed/3",)


def test_too_few_pictures_grant_nothing(claim):
    found = extract(Drawing(), claim, HOW, pictures=5)
    assert (found.verdict, found.copies) == (Verdict.INCONCLUSIVE, 0)
    assert "up to" in found.reason


def test_works_that_are_all_alike_are_not_copied_by_whoever_draws_alike():
    """Flat works lie within any distance of each other: the distance alone would accuse every model of the style."""
    rng = np.random.default_rng(0)
    flat = (128 + rng.integers(-12, 13, (30, SIDE, SIDE, 3))).astype(np.uint8)
    claim = Claim(claimed=works("claimed", flat[:4]), unseen=works("unseen", flat[4:8]), reference=works("r", flat[8:]))

    class Flat:
        def sample(self, prompts, how):
            own = np.random.default_rng(seed_number(how.seed))
            return (128 + own.integers(-12, 13, (len(prompts), SIDE, SIDE, 3))).astype(np.uint8)

    drawn = Flat().sample(["a"] * 10, HOW)
    assert (tiled_distances(drawn, flat[:4]) <= Nearness().distance).all()
    assert extract(Flat(), claim, HOW, pictures=30).copies == 0


def test_a_distance_that_finds_nothing_grants_nothing(claim):
    found = extract(Drawing(), claim, HOW, pictures=40, nearness=Nearness(distance=1e-6))
    assert (found.verdict, found.planted) == (Verdict.UNVERIFIABLE, 0.0)


def test_a_distance_that_finds_what_was_never_seen_accuses_nobody(claim):
    stolen = {"claimed 2": claim.claimed.images[2], "unseen 1": claim.unseen.images[1]}
    found = extract(Drawing(stolen), claim, HOW, pictures=20)
    assert (found.verdict, found.copies, found.control_copies) == (Verdict.INCONCLUSIVE, 2, 2)


def test_one_foreign_tile_makes_another_picture(claim):
    work = claim.claimed.images[:1]
    other = work.copy()
    other[:, : SIDE // 4, : SIDE // 4] = 255 - other[:, : SIDE // 4, : SIDE // 4]
    whole = float(np.sqrt((((work / 255.0) - (other / 255.0)) ** 2).mean()))
    worst = tiled_distances(work, other)[0, 0]
    assert worst == pytest.approx(4 * whole, rel=1e-5)
    assert tiled_distances(work, work)[0, 0] == 0


def test_the_same_seed_draws_the_same_and_another_draws_anew(claim):
    first, again = (extract(Drawing(), claim, HOW, pictures=10) for _ in range(2))
    assert first == again
    assert extract(Drawing(), claim, replace(HOW, seed="cd"), pictures=10).nearest != first.nearest


def test_a_claimed_work_among_the_controls_is_refused(claim):
    with pytest.raises(CheckBroken, match="among those that no training saw"):
        replace(claim, unseen=works("unseen", claim.claimed.images[:1]))


def test_works_of_another_size_are_refused(claim):
    small = Claim(
        claimed=works("c", pictures(2, 8)), unseen=works("u", pictures(2, 8, seed=1)), reference=claim.reference
    )
    with pytest.raises(CheckBroken, match="one size"):
        extract(Drawing(), small, HOW, pictures=1)


@pytest.mark.parametrize("bad", [{"distance": 0}, {"ratio": 1}, {"ratio": float("nan")}, {"neighbours": 0}])
def test_nearness_out_of_range_is_refused(bad):
    with pytest.raises(InputError, match="out of range"):
        Nearness(**bad)


def test_no_pictures_are_refused(claim):
    with pytest.raises(InputError, match="out of range"):
        extract(Drawing(), claim, HOW, pictures=0)
