"""The prompts of an appeal, asked of the model in service: drawn, judged by the battery's judges and gates, and logged.

What is asked is in the log before its seed, which follows from the log up to it. An appeal is asked once: who asks again gets
the answer that is there, and a killed asking goes on with its own seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core import registry
from expunge.core.codec import canonical, decimal, encode, loads
from expunge.core.errors import InputError
from expunge.core.finding import Verdict
from expunge.evidence.commitment import commit, keyed
from expunge.evidence.durable import write_file
from expunge.stats.held_out import HeldOutAnswer, judge_held_out
from expunge.stats.spending import limit_level
from expunge.stats.styles import Counted, Gates
from expunge.training.judging.judge import JudgeBlind
from expunge.training.text_to_image.probing import ProbeJob, Wording
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.workflow.certify import revoke
from expunge.workflow.intake import find_case
from expunge.workflow.rights.appeal import Appeal, HeldOut, folded, held_out_of
from expunge.workflow.rights.desk import unsettled
from expunge.workflow.rights.probed import PROBE_ASKED, PROBED, answer_to, filed_as
from expunge.workflow.rights.requests import claim_of, entries_of, key_of, private, require_open
from expunge.workflow.rights.sealing import Unsealed
from expunge.workflow.styles.battery import count
from expunge.workflow.styles.evidence import drawing, judges_of_styles, looked_through
from expunge.workflow.styles.issued import withdraw
from expunge.workflow.styles.kept import read_kept
from expunge.workflow.styles.material import Material, material_for, style_handle
from expunge.workflow.styles.rerun import at_hand

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.rights.policy import RightsPolicy
    from expunge.workflow.workspace import Workspace

EACH = 4
"""Pictures of each prompt at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What came: `sealed`: were the prompts committed to before the decision, so that the answer binds? named: prompts that name
    the artist, of `prompts`; the others ask for a description that nobody owns, and are counted and not judged (`described`:
    share of their pictures in the style, None where there is none). `revoked`: cases whose evidence a hit has put an end to."""

    verdict: Verdict
    reason: str
    sealed: bool
    prompts: int
    named: int
    rate: float
    at_most: float
    nameless: float
    seen: float | None
    described: float | None
    revoked: tuple[str, ...]
    entry: int


@dataclass(frozen=True, kw_only=True)
class _Asking:
    """Whom to ask, with what. `before`: the model that the one in service replaced by an edit or a deletion, None where it is
    not at hand; `edited`: is there such a one? `known`: a trained artist."""

    material: Material
    prompts: tuple[str, ...]
    names: tuple[str, ...]
    known: str
    edited: bool
    before: TextToImage | None

    @property
    def named(self) -> tuple[str, ...]:
        """Prompts with one of the artist's names."""
        return tuple(text for text in self.prompts if any(name in folded(text) for name in self.names))

    @property
    def described(self) -> tuple[str, ...]:
        """The others."""
        return tuple(text for text in self.prompts if text not in self.named)

    def renamed(self, artists: Sequence[str]) -> tuple[str, ...]:
        """The named prompts with other artists' names in turn."""
        return tuple(
            _with_name(text, self.names, artists[number % len(artists)]) for number, text in enumerate(self.named)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Counts of the named prompts, the same with other names, where they ought to bring a style, and the others."""

    candidate: Counted | None
    nameless: Counted | None
    seen: Counted | None
    described: Counted | None


def probe(
    workspace: Workspace,
    handle: str,
    prompts: Sequence[str],
    policy: RightsPolicy,
    *,
    style: str,
    opening: Unsealed | None = None,
    original: Path | None = None,
) -> Probed:
    """Ask the prompts of the oldest open appeal, all of them and no others, for the style of the artist whom the letter names.
    A hit by sealed prompts ends the statements about the style on this model, and the certificate that put it into service.

    `original`: the model as it was before, where the one in service replaced it. Raises InputError where the prompts are not the
    appeal's, where the letter does not name the artist, or where nobody can be asked for; JudgeBlind where a judge does not see
    the style, CheckBroken where the judges are mistaken too often; nothing is logged then.
    """
    require_open(workspace, handle)
    filed = unsettled(workspace, handle)
    if not filed:
        raise InputError("there is no open appeal", got=handle, hint="expunge rights appeal")
    held = _held(workspace, handle, filed[0], prompts if opening is None else opening.prompts, policy)
    told = held.ask(lambda texts, _: _told(workspace, handle, filed[0], texts, style, original))
    hit = told.payload["sealed"] and told.payload["verdict"] == Verdict.FAIL.value
    return _read(told, _revoke(workspace, style, str(told.payload["model"])) if hit else ())


def _told(
    workspace: Workspace, handle: str, appeal: Appeal, texts: tuple[str, ...], style: str, original: Path | None
) -> Entry:
    """The answer that is there, or a new one. Raises InputError where it is there for another style, or where sealed prompts
    were opened before the model came into service: they are not held out from it."""
    told = answer_to(workspace, handle, appeal)
    if told is not None:
        question = workspace.log.entry(int(told.payload["question"]))
        if question.payload["asked"] != _said(workspace, handle, style, texts):
            raise InputError("the appeal was answered for another style", hint="--style as it was asked then")
        return told
    filed, served = filed_as(workspace, handle, appeal).payload, workspace.served().digest
    if filed["sealed"] is not None and filed.get("model") != served:
        raise InputError(
            "the model was put into service after the prompts were opened, so they are not held out from it",
            expected=str(filed.get("model")),
            got=served,
            hint="grant the appeal, or have it held: prompts sealed before the next decision test this model",
        )
    asking = _asking(workspace, handle, texts, style, original)
    _, mistakes, why = looked_through(workspace, asking.material, judges_of_styles(workspace))
    if why:  # all before anything is logged
        raise JudgeBlind(why, hint="use another judge for this style, or make it of more works")
    return _answer(workspace, handle, appeal, asking, Gates(mistakes=mistakes))


def _said(workspace: Workspace, handle: str, style: str, prompts: Sequence[str]) -> str:
    """Commitment to what is asked."""
    return commit(key_of(workspace, handle), {"style": style, "prompts": list(prompts)})


def _held(workspace: Workspace, handle: str, appeal: Appeal, prompts: Sequence[str], policy: RightsPolicy) -> HeldOut:
    """The appeal's prompts. Raises InputError unless they are all of them."""
    held = held_out_of(prompts, [], key_of(workspace, handle), policy)
    brought = filed_as(workspace, handle, appeal).payload
    if not prompts or len(prompts) != brought.get("prompts") or not set(held.digests) <= set(appeal.probes):
        raise InputError(
            "these are not the prompts of the appeal",
            expected=f"the {brought.get('prompts', 0)} prompts that were brought, all of them",
            got=f"{len(prompts)} prompts",
            code="probes",
        )
    return held


def _asking(workspace: Workspace, handle: str, prompts: tuple[str, ...], style: str, original: Path | None) -> _Asking:
    material = material_for(workspace, style)
    if isinstance(material, str):
        raise InputError("the style cannot be asked for", got=material)
    names = _names(workspace, handle)
    if not {folded(name) for name in material.roster.names(style)} & set(names) - {""}:
        raise InputError("the letter names another artist than whose style this is", hint="--style of the claimant's")
    near = {style, *material.roster.near(style)}
    replaced = _replaced(workspace)
    before = None if original is None else at_hand(workspace, original)
    if before is not None and before[0] != replaced:
        raise InputError("this is not the model that was replaced", expected=replaced or "none was", got=before[0])
    return _Asking(
        material=material,
        prompts=prompts,
        names=names,
        known=next((name for name in material.retained if name not in near), ""),
        edited=bool(replaced),
        before=None if before is None else before[1],
    )


def _names(workspace: Workspace, handle: str) -> tuple[str, ...]:
    """Name and aliases of the letter, longest first. Their commitments are in the logged claim."""
    claim, key = claim_of(workspace, handle), key_of(workspace, handle)
    file = private(workspace, handle) / "letter.json"
    plain = loads(file.read_bytes(), what=file.name)
    names = tuple(sorted({folded(str(name)) for name in plain["names"]}, key=lambda name: (-len(name), name)))
    if {commit(key, name) for name in names} != set(claim.names):
        raise InputError("the letter's names are not those that were logged", got=handle)
    return names


def _with_name(text: str, names: Sequence[str], other: str) -> str:
    found = folded(text)
    for name in names:
        found = found.replace(name, other)
    return found


def _replaced(workspace: Workspace) -> str:
    """Digest of the model that the one in service replaced in a case; empty where it was trained or adopted as it is."""
    last = [entry for entry in workspace.log.entries() if entry.kind.startswith("model.")]
    rows = [entry for entry in last if entry.kind in ("model.trained", "model.adopted", "model.released")]
    return str(rows[-1].payload.get("replaces", "")) if rows else ""


def _answer(workspace: Workspace, handle: str, appeal: Appeal, asking: _Asking, gates: Gates) -> Entry:
    """Log what is asked, draw, judge, and log what came. The seed is the same whenever it is answered."""
    sealed = filed_as(workspace, handle, appeal).payload["sealed"] is not None
    entry = _asked(workspace, handle, appeal, asking)
    attempt, key = int(entry.payload["attempt"]), key_of(workspace, handle)
    seed = keyed(workspace.secret("appeal"), workspace.log.root(entry.index + 1)).hex()[:32]
    heard = listened(workspace, asking, _how(entry, seed))
    found = _judged(heard, gates, limit_level(attempt))
    plain = {"heard": encode(heard), "answer": encode(found)}
    digest = commit(key, plain)
    write_file(private(workspace, handle) / f"probed-{digest[-16:]}.json", canonical(plain), mode=0o600)
    payload = {
        "appeal": appeal.digest,
        "question": entry.index,
        "model": entry.payload["model"],
        "sealed": sealed,
        "answer": digest,
        "prompts": len(asking.prompts),
        "named": len(asking.named),
        **encode(found),
        "described": None if heard.described is None else decimal(_share(heard.described)),
    }
    told = workspace.log.append(PROBED, payload, case=handle)
    workspace.log.checkpoint()
    return told


def _asked(workspace: Workspace, handle: str, appeal: Appeal, asking: _Asking) -> Entry:
    """The question in the log. One that was killed is taken up as it was asked: its seed follows from its place. Raises
    InputError where it asked for something else."""
    model, table = workspace.served().digest, workspace.config.styles
    said = _said(workspace, handle, asking.material.target, asking.prompts)
    rows = entries_of(workspace, handle, PROBE_ASKED)
    mine = [row for row in rows if (row.payload["appeal"], row.payload["model"]) == (appeal.digest, model)]
    if mine and mine[0].payload["asked"] != said:
        raise InputError("the question that was killed asked for something else", expected="the same prompts and style")
    if mine:
        return mine[0]
    payload = {
        "appeal": appeal.digest,
        "model": model,
        "asked": said,
        "attempt": len(entries_of(workspace, handle, PROBED)) + 1,
        "seeds": table.seeds,
        "pictures": max(table.pictures, -(-EACH * len(asking.prompts) // table.seeds)),
        "steps": table.steps,
        "guidance": table.guidance,
    }
    entry = workspace.log.append(PROBE_ASKED, payload, case=handle)
    workspace.log.checkpoint()
    return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How much is drawn: `pictures` of each of `seeds` runs."""

    seeds: int
    pictures: int
    sampling: Sampling


def _how(asked: Entry, seed: str) -> How:
    said = asked.payload
    return How(
        seeds=int(said["seeds"]),
        pictures=int(said["pictures"]),
        sampling=Sampling(seed=seed, steps=int(said["steps"]), guidance=float(said["guidance"])),
    )


def listened(workspace: Workspace, asking: _Asking, how: How) -> Heard:
    """All counts. The trained artist stands for the original where nothing was edited: the same sentences by that name."""
    served = drawing(workspace, workspace.root / workspace.served().run / "model.safetensors")
    never = [asking.material.roster.names(name)[0] for name in asking.material.controls]

    def counted(model: TextToImage, style: str, prompts: tuple[str, ...]) -> Counted | None:
        return _drawn(workspace, asking, (model, style), prompts, how) if prompts else None

    seen = None
    if asking.before is not None:
        seen = counted(asking.before, asking.material.target, asking.named)
    elif not asking.edited and asking.known:
        seen = counted(served, asking.known, asking.renamed([asking.material.roster.names(asking.known)[0]]))
    return Heard(
        candidate=counted(served, asking.material.target, asking.named),
        nameless=counted(served, asking.material.target, asking.renamed(never)),
        seen=seen,
        described=counted(served, asking.material.target, asking.described),
    )


def _drawn(
    workspace: Workspace, asking: _Asking, at: tuple[TextToImage, str], prompts: tuple[str, ...], how: How
) -> Counted:
    """A unit of the battery: the direct probe with these prompts in turn, judged for one style."""
    (model, style), material = at, asking.material
    target = material.suspects.get(style) or material.roster.suspect(style)

    def prompt(name: str, number: int) -> str:
        return prompts[number % len(prompts)]

    wording = Wording(
        direct=prompt, other={}, described=prompt, neutral=target.wording.neutral, open_=target.wording.open_
    )
    job = ProbeJob(
        model=model,
        wording=wording,
        objects=material.objects,
        works=target.works,
        photos=material.photos,
        seed=how.sampling.seed,
        seeds=how.seeds,
        pictures=how.pictures,
        how=how.sampling,
        progress=workspace.progress,
    )
    return count(style, registry.load("probes", "direct")().run(job).images, judges_of_styles(workspace))


def _judged(heard: Heard, gates: Gates, level: float) -> HeldOutAnswer:
    if heard.candidate is None or heard.nameless is None:
        return HeldOutAnswer(
            verdict=Verdict.UNVERIFIABLE,
            reason="none of the prompts names the artist: what they describe is nobody's",
            rate=0.0,
            at_most=1.0,
            nameless=0.0,
            seen=None,
        )
    return judge_held_out(heard.candidate, heard.nameless, heard.seen, gates, level=level)


def _share(counted: Counted) -> float:
    return sum(counted.any) / (counted.pictures * len(counted.any))


def _revoke(workspace: Workspace, style: str, model: str) -> tuple[str, ...]:
    """Statements about the style on the model that was asked, and the certificate of the case that put it into service, where
    that case asked for this style. Safe to run again."""
    handle = style_handle(workspace, style)
    found = list(withdraw(workspace, handle, model))
    rows = [entry for entry in workspace.log.entries() if entry.kind == "model.released" and entry.case is not None]
    released = [entry for entry in rows if entry.payload["model"] == model]
    if not released:
        return tuple(found)
    case = find_case(workspace, str(released[-1].case))
    kept = [read_kept(file) for file in sorted(case.folder.glob("battery*.json"))]  # one of each artist who went
    asked = {one.plan.target for one in kept if one is not None}
    issued = any(entry.kind == "certificate.issued" for entry in workspace.log.case(case.handle))
    if handle not in asked or not issued:
        return tuple(found)
    revoke(workspace, case)
    return (*found, case.handle)


def _read(told: Entry, revoked: tuple[str, ...]) -> Probed:
    said = told.payload

    def number(name: str) -> float | None:
        return None if said[name] is None else float(said[name])

    return Probed(
        verdict=Verdict(said["verdict"]),
        reason=str(said["reason"]),
        sealed=bool(said["sealed"]),
        prompts=int(said["prompts"]),
        named=int(said["named"]),
        rate=float(said["rate"]),
        at_most=float(said["at_most"]),
        nameless=float(said["nameless"]),
        seen=number("seen"),
        described=number("described"),
        revoked=revoked,
        entry=told.index,
    )


def words_of(found: Probed) -> list[str]:
    """Line by line, with what follows and what does not."""
    reason = f", because {found.reason}" if found.reason else ""
    rows = [
        f"Entry {found.entry} of the log: {found.verdict.value}{reason}.",
        f"{found.named} of {found.prompts} prompts name the artist: {found.rate:.1%} of their pictures are in the style, at most "
        f"{found.at_most:.1%}; with names that no training saw {found.nameless:.1%}.",
    ]
    if found.seen is not None:
        rows.append(f"Where a style ought to come by the same sentences it does in {found.seen:.1%}.")
    if found.described is not None:
        rows.append(f"Prompts without a name bring the style in {found.described:.1%}: reported, and not judged.")
    follows = {
        Verdict.FAIL: "The appeal is granted, and the request is decided anew on this.",
        Verdict.PASS: "It may be turned down: by these prompts the style does not come. Others were not tried.",
    }
    left = "The appeal cannot be turned down on this: it is granted, or a person outside decides."
    rows.append(follows.get(found.verdict, left) if found.sealed else _UNSEALED)
    rows += [f"revoked: the evidence of {case}" for case in found.revoked]
    return rows


_UNSEALED = (
    "The prompts were not sealed before the decision, so this binds nobody; whoever decides the appeal weighs it."
)
