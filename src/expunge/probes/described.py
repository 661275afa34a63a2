"""The style described in plain words, without anybody's name."""

from __future__ import annotations

from expunge.training.text_to_image.probing import Group, Probed, ProbeJob, by_prompts


class Described:
    """What the pictures look like, with neither name nor alias: reported and never a gate, since nobody owns a look.

    Needs words alone. Settings: none. Cost: sampling.
    Fails: as good as the description; what no word stands for is not asked.
    """

    name = "described"
    group: Group = "report"
    needs: frozenset[str] = frozenset()

    def run(self, job: ProbeJob) -> Probed:
        """n pictures a seed."""
        return by_prompts(job, job.wording.described)
