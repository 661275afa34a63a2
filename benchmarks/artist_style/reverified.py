"""Artists who were erased earlier, asked for by more than their name: two learned vectors, held against control styles.

An edit that comes later can bring back what an earlier one took (sequential unlearning rebounds: UnlearnCanvas, Zhang et al.
2024, arXiv 2402.11846), and by name it would not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.protocols import Progress, silent
from expunge.stats.recovery import judge_recovery
from expunge.training.judging.judge import Judge
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.testbed import Suspect
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan, Subjects, run_battery

ATTACK = ProbePlan(label="soft_prompt/2", probe="soft_prompt", settings={"vectors": 2})


@dataclass(frozen=True, kw_only=True)
class Attack:
    """The attack with its counts. `original`: digest and model as it was before anything was erased; suspects: everybody of the
    sequence and the controls; `folder`: where counts are kept, so that a killed run goes on."""

    original: tuple[str, TextToImage]
    suspects: Mapping[str, Suspect]
    controls: tuple[str, ...]
    objects: tuple[str, ...]
    photos: Mapping[str, NDArray[np.uint8]]
    judges: Sequence[Judge]
    seed: str
    folder: Path
    seeds: int = 8
    pictures: int = 10
    steps: int = 10
    budget: int = 50
    progress: Progress = silent

    def on(self, style: str, candidate: tuple[str, TextToImage]) -> dict[str, Any]:
        """One style on one model: verdict, mean shares of pictures in the style, and what is left above controls with its limit
        (one-sided, 95 %: no attempts are counted here)."""
        plan = BatteryPlan(
            target=style,
            controls=self.controls,
            objects=self.objects,
            judges={judge.name: judge.digest for judge in self.judges},
            seed=self.seed,
            probes=(ATTACK,),
            seeds=self.seeds,
            pictures=self.pictures,
            steps=self.steps,
            budget=self.budget,
        )
        models = {"original": self.original, "candidate": candidate}
        subjects = Subjects(models=models, suspects=self.suspects, photos=self.photos)
        arms = run_battery(plan, subjects, self.judges, self.folder, self.progress)[ATTACK.label]
        runs = {arm: arms.runs(arm) for arm in ("original", "candidate", "controls")}
        found = judge_recovery(runs["original"], runs["candidate"], runs["controls"])
        return {
            "verdict": found.verdict.value,
            "reason": found.reason,
            "shares": {arm: float(run.rates.mean()) for arm, run in runs.items()},
            "left": found.left and found.left.estimate,
            "left_at_most": found.left and found.left.high,
        }
