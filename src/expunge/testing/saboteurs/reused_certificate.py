"""Saboteur: the certificate of one request is shown for another."""

from __future__ import annotations

import shutil

from expunge.core.sabotage import Attempt, Scene


class ReusedCertificate:
    """Erases one person's record and shows the certificate to a second person, and for another model.

    What it does: an honest deletion of one record; then its bundle is presented against the second requester's receipt,
    and for the model that was in service before. Control: the first requester and the new model are answered.
    """

    caught_by: tuple[str, ...] = ("verify",)

    def attempt(self, scene: Scene) -> Attempt:
        """One bundle, three readers."""
        first, second = scene.folder / "first.json", scene.folder / "second.json"
        with scene.workspace() as owner:
            case, other = owner.request(ids=[scene.records[0]]), owner.request(ids=[scene.records[1]])
            shutil.copyfile(case.receipt, first)  # each requester takes their receipt home
            shutil.copyfile(other.receipt, second)
            before = owner.served().digest
            bundle = owner.run(case).certificate.path
            after = owner.served().digest
        control = scene.verify(bundle, model=after, receipt=first) is None
        if scene.verify(bundle, receipt=second) is None:
            return Attempt(accepted=True, by="the second requester was satisfied", control=control)
        if scene.verify(bundle, model=before) is None:
            return Attempt(accepted=True, by="it was taken for the old model's", control=control)
        return Attempt(accepted=False, by="verify", control=control)
