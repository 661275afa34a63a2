"""policy.yaml: read, and the default one. What a policy means is in core.policy; the floors are there too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.core.documents import read_document
from expunge.core.errors import InputError
from expunge.core.policy import REQUIRED, Kind, Policy
from expunge.training.recipe import AnyRecipe

DEFAULT = """\
# What must hold before a certificate is issued. Marks: must_pass, must_pass_if_seen (or UNVERIFIABLE), must_not_fail,
# report.
# The floors are in code: a policy can be stricter than the defaults, and only so much softer.
name: default
guarantees:
  EXACT:
    provenance: must_pass
    utility: must_not_fail    # an exact retrain is what it is; a small test set cannot resolve a point
    membership: must_not_fail
    deployed: must_not_fail
    coins: must_not_fail      # planted canaries, where this request deletes them
    linkage: report           # near-duplicates that stay; counted, and referred to a person
  EMPIRICAL:
    membership: must_pass
    utility: must_pass
    deployed: must_pass_if_seen
    sensitivity: must_not_fail      # reaction to the features that set the records apart
    neighbourhood: must_not_fail    # perturbed copies
    output_filter: must_not_fail    # an answer that was papered over
    representation: must_not_fail   # what a linear probe reads from the features
    relearning: must_not_fail       # coming back on retained records alone
    neighbours: must_not_fail       # the nearest retained records
    retained_harm: must_not_fail    # exposure of those who stay
    coins: must_not_fail
    linkage: report
attacks: [gradient_norm, lira, rmia]  # the signals; every one of them must pass
limits:
  alpha: 0.025          # per side
  margin: 0.2           # |r| < t, as a share of the IN - OUT gap
  absolute_margin: 1.0  # |X - O| in SD of O
  power: 0.8
  signals: 3
  max_bank: 512         # a gap that needs more bank models than this is UNVERIFIABLE
  accuracy_margin: 1.0  # percentage points
  class_margin: 3.5
  max_attempts: 4
selftest:
  max_age_days: 90      # how old the self-test may be when a certificate is issued
  alarm_rate: 0.05      # of honest models, which must not be exceeded demonstrably
  alarm_upper: 1.0      # what the upper limit of that rate must not exceed; below 1 it takes placebos, .05 takes 59
"""

RECOMMENDER = """\
# What must hold before a certificate about a recommender's user is issued. The floors are in code.
name: recommender
kind: recommender
guarantees:
  EXACT:
    algebra: must_pass            # V1: the sums are those of the retained users, to the last integer
    census: must_pass             # V0: no declared place still holds the user
    left_out: must_pass_if_seen   # V3: the user's own items, against the model that never had them
    behaviour: must_not_fail      # V4: lists of other people, against a retraining
    downstream: must_not_fail     # V5: what is served from, and the way back
    weights_only: must_not_fail   # V2: what the counts in the weights rule out
    ranking: must_not_fail        # quality, against a retraining and against before
    membership: must_not_fail     # three arms of a bank; of a trained family, where there is one
    linkage: report               # the same person under another id; counted, and referred to a person
  EMPIRICAL:                      # a trained family that was not trained again; without a bank nobody judges it
    membership: must_pass         # models that saw the user, never saw them, and unlearned them, on every signal
    deployed: must_pass           # the served file itself, among full-size models
    census: must_pass
    ranking: must_not_fail
    behaviour: report             # it is another model than the retraining: how far off, not whether
    linkage: report
attacks: [lira, own_rank, reconstruction]  # the signals, of users' own items; every one of them must pass
limits:
  alpha: 0.025          # per side
  margin: 0.2           # |r| < t, as a share of the IN - OUT gap
  absolute_margin: 1.0  # |X - O| in SD of O
  power: 0.8
  signals: 3
  max_bank: 512         # a gap that needs more bank models than this is UNVERIFIABLE
  ranking_margin: 0.005 # NDCG@100 and Recall@20 that may be lost against before
  max_attempts: 4
selftest:
  max_age_days: 90
"""
GENERATOR = """\
# What must hold before a certificate about an artist's works in a text-to-image model is issued. The floors are in code.
name: generator
kind: generator
guarantees:
  EXACT:
    provenance: must_pass   # trained without the works, line by line, as logged by the owner
    style: must_not_fail    # and the style does not come by the artist's name, where judges are there to see it
    membership: must_not_fail  # three arms of a bank of works, where there is one
    linkage: report         # near-duplicates that stay; counted, and referred to a person
  EMPIRICAL:                # an edit of the weights: what they still know is measured, never proven to be gone
    style: must_pass        # no attack brings the style back more often than styles that no training saw
    collateral: must_pass   # other artists' styles and what the pictures show are still there
    membership: report      # an edit is about a style; whether a bank can tell the works is said, and decides nothing
    linkage: report
attacks: [lira, quantile, rmia]  # the signals, of each work's denoising loss; a policy without any asks no bank
limits:
  alpha: 0.025          # per side
  margin: 0.2           # |r| < t, as a share of the IN - OUT gap
  absolute_margin: 1.0  # |X - O| in SD of O
  power: 0.8
  signals: 3
  max_bank: 512         # a gap that needs more bank models than this is UNVERIFIABLE
  max_attempts: 4
selftest:
  max_age_days: 90
"""
BY_KIND: Mapping[Kind, str] = {"classifier": DEFAULT, "recommender": RECOMMENDER, "generator": GENERATOR}
"""The policy of a new workspace, by what is deleted from."""
RECIPES: Mapping[Kind, str] = {"classifier": "digits", "recommender": "ease", "generator": "artist-styles"}
"""The built-in recipe of a new workspace where none is named."""
_FAMILIES: Mapping[str, Kind] = {"models": "classifier", "recommenders": "recommender", "generators": "generator"}


def kind_of(data: Any) -> Kind:
    """What kind of model is trained on a data set."""
    return _FAMILIES[data.families]


@cache
def checks_of(kind: Kind) -> frozenset[str]:
    """Checks that belong to a kind of model: those that its default policy names, and those that no policy may leave out."""
    granted = [*parse_policy(BY_KIND[kind], what=kind).guarantees.values(), *REQUIRED[kind].values()]
    return frozenset(check for rules in granted for check in rules)


def check_kind(policy: Policy, data: Any, recipe: AnyRecipe) -> None:
    """Raises InputError unless policy and recipe are for models of this data."""
    kind = kind_of(data)
    if policy.kind != kind:
        raise InputError(f"the policy is for a {policy.kind}", expected=f"kind: {kind}", got=policy.name)
    if recipe.family not in registry.names(data.families):
        raise InputError(
            f"no {kind} of this family", expected=", ".join(registry.names(data.families)), got=recipe.family
        )


def check_recipe(policy: Policy, recipe: AnyRecipe) -> None:
    """Raises InputError when a workspace's policy is for another kind of model than its recipe."""
    kinds = [kind for families, kind in _FAMILIES.items() if recipe.family in registry.names(families)]
    if kinds and policy.kind not in kinds:
        raise InputError(f"the policy is for a {policy.kind}", expected=f"kind: {kinds[0]}", got=policy.name)


def parse_policy(text: str, *, what: str = "policy.yaml") -> Policy:
    """A Policy from YAML; unknown fields, bad values and broken floors are refused. Empty means refused."""
    return read_document(Policy, text, what=what)


def read_policy(path: Path) -> Policy:
    """The policy in a file."""
    try:
        return parse_policy(path.read_text(encoding="utf-8"), what=path.name)
    except FileNotFoundError as error:
        raise InputError(f"no policy at {path}", hint="absent means refused", code="policy") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text", code="policy") from error


def policy_digest(policy: Policy) -> str:
    """`sha256:` of the policy as it was understood, so that comments and layout do not count."""
    return digest_of(policy)
