"""Saboteur: the owner judges itself by a policy of its own making."""

from __future__ import annotations

from expunge.core.errors import ExpungeError
from expunge.core.sabotage import Attempt, Scene

_SOFTER = {"alpha: 0.025": "alpha: 0.4", "margin: 0.2 ": "margin: 0.9 ", "membership: must_pass": "membership: report"}


class SoftPolicy:
    """Softens policy.yaml below the floors, and, inside them, below what the relying party asks for.

    What it does: tries alpha .4, a margin of .9 and a membership check that only reports, one after the other, none of
    which may even be read; then shows an honest certificate to a relying party whose margin and alpha are stricter than
    the plan's. Control: the same certificate satisfies a relying party with the policy it was issued under.
    """

    caught_by: tuple[str, ...] = ("floors", "verify")

    def attempt(self, scene: Scene) -> Attempt:
        """Below the floors first, then below the reader."""
        file = scene.folder / "policy.yaml"
        honest = file.read_text(encoding="utf-8")
        for strict, soft in _SOFTER.items():
            changed = honest.replace(strict, soft, 1)
            if changed == honest:
                return Attempt(accepted=False, by="nothing", objection=f"its policy says nothing like {strict.strip()}")
            file.write_text(changed, encoding="utf-8")
            if _opens(scene):
                return Attempt(accepted=True, by=f"a policy with {soft.strip()} was read", objection=None)
        file.write_text(honest, encoding="utf-8")
        bundle = scene.certified
        objection = scene.verify(bundle)
        refused = [scene.verify(bundle, margin=0.1), scene.verify(bundle, alpha=0.001)]
        if None in refused:
            return Attempt(accepted=True, by="looser limits than the reader's were accepted", objection=objection)
        return Attempt(accepted=False, by="floors, verify", objection=objection)


def _opens(scene: Scene) -> bool:
    try:
        with scene.workspace():
            return True
    except ExpungeError:
        return False
