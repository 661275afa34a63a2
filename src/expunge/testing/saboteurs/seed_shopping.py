"""Saboteur: the same plan is run again until the seed pleases."""

from __future__ import annotations

from typing import Any

from expunge.core.sabotage import Attempt, Scene


class SeedShopping:
    """Kills a run before it is judged and starts it again; then also removes the checkpoint that its seed came from.

    What it does: the seed of a run is HMAC(case key, checkpoint signed after the plan), so a run that is taken up again
    has the same seed; and a plan that has lost its checkpoint is logged as failed, so that the next one is another
    attempt, with less alpha, for everybody to see (VERDICTS section 4). Control: two cases do have two seeds.
    """

    caught_by: tuple[str, ...] = ("seed", "attempts")

    def attempt(self, scene: Scene) -> Attempt:
        """Killed twice, then with its checkpoint gone."""
        with scene.workspace() as owner:
            case, other = owner.request(ids=[scene.records[0]]), owner.request(ids=[scene.records[1]])
            first, second = _drawn(owner, case), _drawn(owner, case)
            for checkpoint in case.private.glob("checkpoint-*.txt"):
                checkpoint.unlink()
            third = _drawn(owner, case)
            apart = len(first) == 1 and bool(_drawn(owner, other) - third)
            attempts = len(list(case.folder.glob("plan-*.json")))
        objection = None if apart else "two cases did not have two seeds"
        if second != first:
            return Attempt(accepted=True, by="the same attempt was given a second seed", objection=objection)
        if len(third) > 1 and attempts < len(third):
            return Attempt(accepted=True, by="a new seed was not counted as a new attempt", objection=objection)
        return Attempt(accepted=False, by="seed, attempts", objection=objection)


def _drawn(owner: Any, case: Any) -> set[str]:
    """Seeds that all runs of the case so far were given, after one more that is killed while it trains."""

    def killed(what: str, done: int, total: int) -> None:
        if what == "train":
            raise KeyboardInterrupt

    before, owner.progress = owner.progress, killed
    try:
        owner.run(case, ["finetune"])
    except KeyboardInterrupt:
        pass
    finally:
        owner.progress = before
    runs = (owner.root / "store" / "runs").glob(f"{case.handle}-finetune-*")
    return {run.name.rpartition("-")[2] for run in runs}
