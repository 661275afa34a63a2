"""Saboteur: the certificate of one request is shown for another."""

from __future__ import annotations

from expunge.core.sabotage import Attempt, Scene
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.statement import parse_statement


class ReusedCertificate:
    """Shows one person's certificate to a second person, and for another model.

    What it does: the bundle of an honest deletion is presented against the second requester's receipt,
    and for the model that was in service before. Control: the first requester and the new model are answered.
    """

    caught_by: tuple[str, ...] = ("verify",)

    def attempt(self, scene: Scene) -> Attempt:
        """One bundle, three readers."""
        bundle = scene.certified
        models = parse_statement(payload_of(read_bundle(bundle).json("certificate.json"))).predicate.models
        before, after = models.before, models.after
        with scene.workspace() as owner:
            second = owner.request(ids=[scene.records[0]]).receipt
        objection = scene.verify(bundle, model=after, receipt=scene.requester)
        if scene.verify(bundle, receipt=second) is None:
            return Attempt(accepted=True, by="the second requester was satisfied", objection=objection)
        if scene.verify(bundle, model=before) is None:
            return Attempt(accepted=True, by="it was taken for the old model's", objection=objection)
        return Attempt(accepted=False, by="verify", objection=objection)
