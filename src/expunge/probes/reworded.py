"""The artist by other words: paraphrases, aliases, misspellings, titles and other languages."""

from __future__ import annotations

from expunge.training.text_to_image.probing import Group, Probed, ProbeJob, by_prompts


class Reworded:
    """All of the wording's other ways to name the artist, in turn, so that each has its share of every run.

    An edit that was made for one form of words often leaves the others (Luccioni et al.; HUB, 2410.05664, finds other
    languages the weakest spot of several methods). Needs words alone. Settings: none. Cost: sampling.
    Fails: a way that nobody wrote down is not tried.
    """

    name = "reworded"
    group: Group = "prompt"
    needs: frozenset[str] = frozenset()

    def run(self, job: ProbeJob) -> Probed:
        """n pictures a seed, each way n / ways of them."""
        ways = list(job.wording.other.values())

        def prompt(name: str, number: int) -> str:
            return ways[number % len(ways)](name, number // len(ways))

        return by_prompts(job, prompt if ways else job.wording.direct)
