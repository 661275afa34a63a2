import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import InputError
from expunge.training.recipe import parse_recipe
from expunge.training.schedule import Schedule
from training import slow_twins


def recipe(**changes):
    plain = {"name": "t", "family": "mlp", "epochs": 6, "batch": 7, "lr": 0.4, "introduce": (0.0, 0.4, 0.7)}
    return parse_recipe({**plain, **changes})


def schedule(slots, seed="s", **changes):
    return Schedule(recipe=recipe(**changes), seed=seed, slots=np.array(slots, np.int64))


RECIPES = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 6),
        "batch": st.integers(1, 9),
        "introduce": st.sampled_from([(0.0,), (0.0, 0.5), (0.0, 0.3, 0.6, 0.9)]),
    }
)


@settings(max_examples=50)
@given(slots=st.sets(st.integers(0, 300), min_size=25, max_size=40), changes=RECIPES)
def test_the_whole_schedule_equals_its_slow_twin(slots, changes):
    mine = schedule(sorted(slots), **changes)
    got = [(epoch, batch.tolist()) for epoch in range(mine.recipe.epochs) for batch in mine.batches(epoch)]
    assert got == list(slow_twins.steps(mine.recipe, "s", sorted(slots)))
    assert mine.total_steps == len(got)
    for slot in sorted(slots)[:5]:
        first = next(step for step, (_, batch) in enumerate(got) if slot in batch)
        assert mine.first_step(frozenset({slot})) == first
        assert mine.first_epoch(frozenset({slot})) == got[first][0]


def test_every_record_is_used_once_an_epoch_from_its_slice_on():
    mine = schedule(range(60))
    introduced = mine.introduced()
    assert set(introduced.tolist()) == {0, 2, 4}
    for epoch in range(6):
        used = np.concatenate(list(mine.batches(epoch)))
        assert sorted(used.tolist()) == np.flatnonzero(introduced <= epoch).tolist()


def test_epochs_are_in_different_orders():
    mine = schedule(range(60), introduce=(0.0,))
    orders = {tuple(mine.epoch_slots(epoch).tolist()) for epoch in range(6)}
    assert len(orders) == 6


def test_slots_of_another_training_change_nothing():
    mine = schedule(range(30))
    assert mine.first_epoch(frozenset({999})) == mine.recipe.epochs
    assert mine.first_step(frozenset({999})) == mine.total_steps
    assert mine.first_step(frozenset()) == mine.total_steps


def test_the_first_use_of_several_records_is_the_earliest():
    mine = schedule(range(60))
    firsts = [mine.first_step(frozenset({slot})) for slot in range(60)]
    assert mine.first_step(frozenset(range(60))) == min(firsts) == 0
    late = [slot for slot in range(60) if firsts[slot] > mine.total_steps / 3]
    assert late
    assert mine.first_step(frozenset(late)) == min(firsts[slot] for slot in late)


@pytest.mark.parametrize(("warmup", "final"), [(0.0, 0.0), (0.2, 0.0), (0.5, 0.3)])
def test_learning_rate_equals_its_slow_twin(warmup, final):
    mine = schedule(range(10), warmup=warmup, final_lr=final)
    rates = [mine.lr(step, 40) for step in range(40)]
    if warmup == 0:  # np.interp has a jump at zero; the line does not
        wanted = [0.4 * (final + (1 - final) * (1 - (step + 1) / 40)) for step in range(40)]
    else:
        wanted = [slow_twins.lr(mine.recipe, step, 40) for step in range(40)]
    assert rates == pytest.approx(wanted)
    assert max(rates) <= 0.4 + 1e-12
    assert rates[-1] == pytest.approx(0.4 * final)


def test_an_empty_first_epoch_is_refused():
    mine = schedule(range(60))
    late = [slot for slot, epoch in enumerate(mine.introduced()) if epoch > 0]
    with pytest.raises(InputError, match="first epoch"):
        assert schedule(late).total_steps
