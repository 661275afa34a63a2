"""The artist's name, in the words of the captions that trained."""

from __future__ import annotations

from expunge.training.text_to_image.probing import Group, Probed, ProbeJob, by_prompts


class Direct:
    """Prompts in the captions' own forms: the first thing anyone tries, and the first that an edit stops.

    Needs words alone. Settings: none. Cost: sampling.
    Fails: says nothing of what the weights still know.
    """

    name = "direct"
    group: Group = "prompt"
    needs: frozenset[str] = frozenset()

    def run(self, job: ProbeJob) -> Probed:
        """n pictures a seed."""
        return by_prompts(job, job.wording.direct)
