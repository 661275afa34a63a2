"""Saboteur: the plan gets other limits after its results are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from expunge.core.codec import canonical, decode, digest_of, encode
from expunge.core.plan import Plan
from expunge.core.sabotage import Attempt, Scene
from expunge.evidence.bundle import file_digests, read_bundle, zip_bytes
from expunge.evidence.envelope import payload_of
from expunge.evidence.statement import build_statement, parse_statement

_WANTED = "0.1"
_OWN = ("certificate.json", "log.json", "checkpoint.txt", "verify.py", "README.txt")


class ThresholdsChanged:
    """Rewrites the margin in plan.json after the run, and signs the certificate again with the owner's own keys.

    What it does: a deletion judged at the policy's margin; then, for a reader who asks for half of it, a bundle whose
    plan says that it was half from the start, with the statement's digests made to fit and new signatures. The log
    still holds the digest of the plan that was committed before anything ran. Control: the unchanged bundle verifies.
    """

    caught_by: tuple[str, ...] = ("verify",)

    def attempt(self, scene: Scene) -> Attempt:
        """The rewritten bundle in front of a relying party."""
        bundle = scene.certified
        objection = scene.verify(bundle)
        files = dict(read_bundle(bundle).files)
        plan = decode(Plan, read_bundle(bundle).json("plan.json"), what="plan.json")
        files["plan.json"] = canonical(encode(_rewritten(plan)))
        refused = scene.verify(
            zip_bytes({**files, "certificate.json": canonical(encode(_resigned(scene, files)))}),
            margin=float(_WANTED),
        )
        if refused is None:
            return Attempt(accepted=True, by="a plan that was never logged was believed", objection=objection)
        return Attempt(accepted=False, by="verify", objection=objection)


def _rewritten(plan: Plan) -> Plan:
    checks = tuple(replace(spec, limits={**spec.limits, "margin": _WANTED}) for spec in plan.checks)
    return replace(plan, checks=checks)


def _resigned(scene: Scene, files: dict[str, bytes]) -> Any:
    """The owner's statement over the changed files."""
    envelope = read_bundle(zip_bytes(files)).json("certificate.json")
    predicate = parse_statement(payload_of(envelope)).predicate
    plan = decode(Plan, read_bundle(zip_bytes(files)).json("plan.json"), what="plan.json")
    changed = replace(
        predicate,
        plan=replace(predicate.plan, digest=digest_of(plan)),
        files=file_digests({name: data for name, data in files.items() if name not in _OWN}),
        sentence="",
    )
    return scene.sign(build_statement(changed))
