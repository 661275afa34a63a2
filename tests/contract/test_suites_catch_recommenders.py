"""Negative controls for recommenders: every law of their suite is broken by a family that it alone catches."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

from contract.catching import broken, only
from expunge.core import registry
from expunge.testing import RECOMMENDER_LAWS, examine_recommender
from expunge.testing.users import USERS
from expunge.training.closed_form.counts import CountRecommender, Sum

Popularity = registry.load("recommenders", "popularity")
Itemknn = registry.load("recommenders", "itemknn")
Ease = registry.load("recommenders", "ease")
Ials = registry.load("recommenders", "ials")


def family(base, **members):
    return type(base.__name__, (base,), {"__doc__": "A family.", **members})


def reads_back_another_digest(self, folder):
    done = Popularity._finished(self, folder)
    return done and replace(done, digest="sha256:" + "0" * 64)


def counts_trainings(self, rows):
    sums = Popularity.sums_of(self, rows)
    sums["counts"] += next(TRAININGS)
    return sums


TRAININGS = count()


def lists_stay(self, model, before, after):
    """The counts are right; the neighbour lists are those of the model that had the users."""
    CountRecommender.erase(self, model, before, after)


def only_adds(self, sums, rows, sign):
    if sign > 0:
        Popularity.add(self, sums, rows, sign)


def the_next_user(self, job, source, forget):
    return Popularity.downdate(self, job, source, frozenset(user + 1 for user in forget))


def a_row_of_the_gram_matrix_stays(self, source, before, after, folder):
    gram, inverse = Ease.subtracted(self, source, before, after, folder)
    gram[0, 0] += 1
    return gram, inverse


def only_batches(self, job, source, forget):
    return Popularity.downdate(self, job, source, forget if len(forget) > 1 else frozenset())


def retrains_on_all_but_the_last_request(self, job, source, forget):
    return self.fit(replace(job, absent=forget))


def writes_down_who_left(self, job, source, forget):
    with (source / "erased.log").open("a") as file:
        file.write(f"{sorted(forget)}\n")
    return Popularity.downdate(self, job, source, forget)


def counts_visits(self, path):
    with (path.parent / "visits").open("a") as file:
        file.write("1")
    return Popularity.load(self, path)


def share_of_the_batch(self, model, rows):
    found = Itemknn.outputs(self, model, rows)
    return found / found.max()


def unseen_items_have_no_score(self, model, rows):
    found = Popularity.outputs(self, model, rows)
    return np.where(found > found.min(), found, np.nan)


class CountsSlots(Popularity):
    """A family that also counts its users: those it was not told are absent, whether they have a history or not."""

    sums = {**Popularity.sums, "users": Sum(dtype=np.int64, axes=0)}  # noqa: RUF012

    def rows(self, job):
        return self.matrix(job.data.train)[sorted(set(range(len(job.data.train))) - job.absent)]

    def add(self, sums, rows, sign):
        Popularity.add(self, sums, rows, sign)
        sums["users"] += sign * rows.shape[0]

    def erase(self, model, before, after):
        self.add(model.sums, before, -1)


def deletes_by_content(self, job):
    """Everybody with the history of an absent user goes too; as the data is, nobody has it."""
    train, gone = job.data.train, job.absent
    contents = {train.content(slot) for slot in gone if len(train.row(slot)[0])}
    copies = [slot for slot in range(len(train)) if slot in gone or train.content(slot) in contents]
    return self.matrix(train.without(copies))


def keeps_a_place_for_everybody(self, folder, tensors, run):
    return Ials.save(self, folder, {**tensors, "users": torch.ones(USERS, 2)}, run)


def remembers_what_it_trained(self, folder, tensors, run):
    """The file has rounded factors; the exact ones stay in memory."""
    self.memory = {**getattr(self, "memory", {}), folder: tensors["items"].numpy()}
    return Ials.save(self, folder, {"items": tensors["items"].half().float()}, run)


def from_memory(self, path):
    return getattr(self, "memory", {}).get(path.parent, Ials.load(self, path))


def goes_on_in_place(self, job, source, forget, sweeps):
    (source / "model.safetensors").unlink()
    return Ials.fit(self, replace(job, folder=source))


def starts_anywhere(self, job):
    return Ials.fit(self, replace(job, seed=f"{next(TRAININGS)}"))


RECOMMENDERS = {  # the first of each is caught by its law alone
    "is_a_recommender_of_its_name": [
        family(Popularity, __doc__=""),
        family(Popularity, downdate=None),
        family(Popularity, family="favourites"),
        family(Ials, __doc__=""),
        family(Ials, derived_state=None),
    ],
    "same_job_gives_the_same_model": [
        family(Popularity, _finished=reads_back_another_digest),
        family(Popularity, sums_of=counts_trainings),
        family(Ials, fit=starts_anywhere),
    ],
    "downdate_is_a_retraining": [
        family(Itemknn, erase=lists_stay),
        family(Popularity, add=only_adds),
        family(Popularity, downdate=the_next_user),
        family(Ease, subtracted=a_row_of_the_gram_matrix_stays),
    ],
    "deletions_one_by_one_are_one_deletion": [
        family(Popularity, downdate=only_batches),
        family(Popularity, downdate=retrains_on_all_but_the_last_request),
    ],
    "the_users_make_a_difference": [
        family(Popularity, add=lambda self, sums, rows, sign: None),
        family(Popularity, outputs=lambda self, model, rows: np.zeros(rows.shape)),
        family(Ials, fit=lambda self, job: Ials.fit(self, replace(job, absent=frozenset()))),
    ],
    "original_is_not_touched": [
        family(Popularity, downdate=writes_down_who_left),
        family(Popularity, load=counts_visits),
        family(Ials, warm=goes_on_in_place),
    ],
    "answers_are_one_score_per_item": [
        family(Itemknn, outputs=share_of_the_batch),
        family(Popularity, outputs=unseen_items_have_no_score),
        family(Popularity, outputs=lambda self, model, rows: Popularity.outputs(self, model, rows)[:, :10]),
        family(Ials, outputs=lambda self, model, rows: Ials.outputs(self, model, rows)[:, :10]),
    ],
    "emptied_users_stay_empty": [CountsSlots],
    "absent_histories_play_no_part": [family(Popularity, rows=deletes_by_content)],
    "no_absent_user_has_a_row": [family(Ials, save=keeps_a_place_for_everybody)],
    "the_file_is_the_model": [family(Ials, save=remembers_what_it_trained, load=from_memory)],
}
BROKEN = [(law, plugin) for law, plugins in RECOMMENDERS.items() for plugin in plugins]


def examined(plugin, laws=RECOMMENDER_LAWS):
    return broken(examine_recommender(plugin, name=plugin.__mro__[1].family, laws=laws))


def test_every_law_of_the_recommenders_has_a_negative_control():
    assert set(RECOMMENDERS) == {law.__name__ for law in RECOMMENDER_LAWS}


@pytest.mark.parametrize(("law", "plugin"), BROKEN)
def test_recommender_that_breaks_a_law_is_caught_by_it(law, plugin):
    assert law in examined(plugin, only(RECOMMENDER_LAWS, law))


@pytest.mark.parametrize(("law", "plugins"), RECOMMENDERS.items())
def test_no_law_is_said_by_the_others(law, plugins):
    assert examined(plugins[0]) == {law}
