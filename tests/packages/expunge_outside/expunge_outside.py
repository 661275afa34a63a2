"""Three plug-ins that belong to somebody else. They use the public protocols and nothing of expunge's insides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from expunge.core.errors import InputError
from expunge.core.finding import Condition, Finding, Guarantee, MembershipScores, Verdict
from expunge.core.protocols import HasGradients


class Shrink:
    """One epoch on the retained records at a tiny rate: barely an unlearner, and it says so.

    Source: none; an example.
    Aims at: EMPIRICAL. Needs: HasGradients. Cost: one epoch over the recipe's epochs.
    Fails when: nearly always.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = HasGradients

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`lr` of the single epoch."""

        lr: float = 0.001

    def refuses(self, job):
        return "the original is sharded" if int(job.job.recipe.get("shards", 1)) > 1 else None

    def cost(self, job):
        return 1 / int(job.job.recipe["epochs"])

    def unlearn(self, job):
        unknown = set(job.params) - {"lr"}
        if unknown:
            raise InputError("unknown settings of shrink", expected="lr", got=", ".join(sorted(unknown)))
        rate = float(job.params.get("lr", self.Config().lr))
        target = replace(job.job, folder=job.target, absent=job.job.absent | job.forget, seed=job.seed)
        return job.adapter.tune(target, job.source / "model.safetensors", {"epochs": 1, "lr": rate})


class Confidence:
    """Log-probability of the record above its mean over models that never saw it (Yeom et al. 2018, with a reference)."""

    def score(self, job):
        out = np.where(job.member, np.nan, job.reference)
        return MembershipScores(attack="confidence", values=job.target - np.nanmean(out, axis=0), unit="nats")


class Agreement:
    """Share of holdout records on which candidate and original are both right or both wrong."""

    question = "Do candidate and original agree on the holdout?"

    def run(self, job):
        if job.correctness is None:
            return self._finding(Verdict.INCONCLUSIVE, "no holdout was scored")
        seen = job.correctness
        share = float((np.asarray(seen.candidate) == np.asarray(seen.original)).mean())
        verdict = Verdict.PASS if share >= 0.9 else Verdict.FAIL
        return self._finding(verdict, f"they agree on {share:.1%}", share, len(seen.candidate))

    def _finding(self, verdict, reason, share=None, n=0):
        return Finding(
            check="agreement",
            question=self.question,
            statistic="share of holdout records with the same correctness",
            verdict=verdict,
            reason=reason,
            estimate=share,
            limit=0.9,
            original=1.0 if n else None,
            n=n,
            conditions=(Condition(name="agreement", verdict=verdict, estimate=share, limit=0.9),),
        )
