"""The artist's name, in the words of the captions that trained."""

from __future__ import annotations

from expunge.training.text_to_image.probing import Group, Probed, ProbeJob, by_prompts


class Direct:
    """Prompts in the captions' own forms: the first thing anyone tries, and the first that an edit stops.

    Says nothing of what the weights still know. Cost: sampling.
    """

    name = "direct"
    group: Group = "prompt"

    def run(self, job: ProbeJob) -> Probed:
        """n pictures a seed."""
        return by_prompts(job, job.wording.direct)
