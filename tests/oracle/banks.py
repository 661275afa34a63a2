"""Simulated banks with a known truth: what an exact unlearner, a no-op and a blind assay look like."""

from __future__ import annotations

import numpy as np

from expunge.core.finding import Guarantee
from expunge.core.policy import Limits
from expunge.core.protocols import Arms, CheckJob, Deployed, Spike


def log_sigmoid(logit):
    """log p of a logit, elementwise."""
    return -np.logaddexp(0.0, -logit)


def three_draws(rng, pairs, *, gap=0.0, correlation=0.0, unlearned=0.0):
    """O, I, X (pairs,): unit variance, E O = 0, E I = gap, E X = unlearned·gap; corr(O, I) = corr(O, X) given."""
    shared = rng.standard_normal(pairs)
    sign = np.sign(correlation)
    a, b = np.sqrt(abs(correlation)), np.sqrt(1 - abs(correlation))
    out = a * shared + b * rng.standard_normal(pairs)
    into = gap + sign * a * shared + b * rng.standard_normal(pairs)
    left = unlearned * gap + sign * a * shared + b * rng.standard_normal(pairs)
    return out, into, left


def bank(rng, *, pairs=24, records=10, gap=2.0, unlearned=None, population=100, shift=0.0):
    """Arms whose per-record logits move by `gap` SD when the block is trained on; `unlearned` is the true residual.

    unlearned="no-op" copies the IN models, None runs no X arm; `shift` moves X by that many SD for every record.
    """
    level, unseen_level = rng.normal(0.0, 1.0, records), rng.normal(1.0, 1.5, population)

    def models(count, moved):
        return log_sigmoid(level + moved + rng.standard_normal((count, records)))

    def unseen(count):
        return log_sigmoid(unseen_level + 0.5 * rng.standard_normal((count, population)))

    out, into = models(pairs, 0.0), models(pairs, gap)
    out_z, into_z = unseen(pairs), unseen(pairs)
    left, left_z = None, None
    if unlearned == "no-op":
        left, left_z = into.copy(), into_z.copy()
    elif unlearned is not None:
        left, left_z = models(pairs, unlearned * gap + shift), unseen(pairs)
    return Arms(
        out=out, into=into, unlearned=left, out_population=out_z, into_population=into_z, unlearned_population=left_z
    )


def spikes_of(rng, arms, *, rise=2.0, doses=(1, 4, 16)):
    """X models after the block was put back: logits rise by `rise` SD at the largest dose, in proportion before."""
    pairs, records = arms.out.shape
    level = arms.out - np.log(-np.expm1(arms.out))
    return tuple(
        Spike(
            dose=dose,
            unlearned=log_sigmoid(level.mean(0) + rise * dose / max(doses) + rng.standard_normal((pairs, records))),
            unlearned_population=arms.out_population,
        )
        for dose in doses
    )


def served(rng, *, candidate=0.0, anchors=40, members=40, records=10, gap=2.0, population=100):
    """Deployed: a file whose logits moved by candidate·gap among full-size anchors; the original moved by gap."""
    level, unseen_level = rng.normal(0.0, 1.0, records), rng.normal(1.0, 1.5, population)

    def models(count, moved):
        return log_sigmoid(level + moved + rng.standard_normal((count, records)))

    def unseen(count):
        return log_sigmoid(unseen_level + 0.5 * rng.standard_normal((count, population)))

    return Deployed(
        candidate=models(1, candidate * gap),
        original=models(1, gap),
        out_anchors=models(anchors, 0.0),
        in_anchors=models(members, gap),
        candidate_population=unseen(1),
        original_population=unseen(1),
        out_population=unseen(anchors),
        in_population=unseen(members),
    )


def job(*, arms=None, deployed=None, correctness=None, signals=("lira", "rmia"), guarantee="EXACT", **limits):
    """A CheckJob with the default limits, except those named; `wanted` is the policy's number of signals."""
    limits["signals"] = limits.pop("wanted", None) or len(signals) or 1
    given = {"seed": 7, "attempt": 1}
    for name in ("seed", "attempt", "canary_power", "measured", "spikes", "unable", "looks", "found"):
        if name in limits:
            given[name] = limits.pop(name)
    return CheckJob(
        limits=Limits(**limits),
        guarantee=Guarantee[guarantee],
        **given,
        signals=tuple(signals),
        arms=arms,
        deployed=deployed,
        correctness=correctness,
    )
