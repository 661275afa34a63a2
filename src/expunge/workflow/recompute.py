"""A second key holder re-executes the recipe on the retained data; the same weights turn "as logged" into "recomputed".

The owner's package is not believed: before anything is trained, the records it names are hashed from the second
holder's own copy and must have the roots of the certificate's data, and recipe and numerics must be the plan's. The seed
is in neither; whichever it is, a model trained on those records does not contain the deleted one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, decode, digest_of, encode, loads
from expunge.core.errors import EvidenceError, InputError
from expunge.core.plan import Numerics, Plan
from expunge.core.protocols import FitJob, FitResult, Progress, silent
from expunge.core.refs import DataRef
from expunge.evidence.bundle import Bundle, read_bundle
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.envelope import payload_of
from expunge.evidence.keys import load_signer
from expunge.evidence.manifest import RecordManifest
from expunge.evidence.recompute import Recompute, sign_recompute
from expunge.evidence.statement import Statement, parse_statement
from expunge.farm.member import adapter_for
from expunge.farm.opened import open_data
from expunge.training.recipe import AnyRecipe, parse_any_recipe
from expunge.workflow.cuts import Cuts


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """What came of it; `cosignature` is the file to hand back to the owner and to relying parties."""

    model: str
    seconds: float
    cosignature: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """recompute.json: ids and blocks by slot (None and "" where erased), and `key`, the data key in hex; `items` is a
    recommender's frozen vocabulary, None for any other model; `cuts` are keyed tags of what shortened histories keep, and
    tombstones of deleted items.

    With the key the second holder computes the roots that the certificate names from records they hold themselves.
    They have the retained data anyway; whoever has a deleted record too can find its leaves with the key, so the
    package is not for publication.
    """

    recipe: Mapping[str, Any]
    seed: str
    absent: tuple[int, ...]
    numerics: Numerics
    source: str
    options: Mapping[str, Any]
    ids: tuple[str | None, ...]
    blocks: tuple[str, ...]
    key: str
    items: tuple[str, ...] | None = None
    cuts: Mapping[str, Any] | None = None


def recompute(
    bundle: Path, package: Path, *, data: str | None, key: str, by: str, out: Path, progress: Progress = silent
) -> Recomputed:
    """Train from scratch with the recorded recipe, seed and tombstones on `data`, and sign if the weights are the same.

    `package` is the owner's recompute.json; `data` the second holder's own copy of the retained records; `key` the URI of
    their key. Raises EvidenceError when the package is of other records, another recipe or other numerics than the
    certificate, or when the weights differ; InputError when the numerics of this machine do.
    """
    opened = read_bundle(bundle)
    statement = parse_statement(payload_of(opened.json("certificate.json")))
    with storage_errors(package, "read"):
        raw = package.read_bytes()
    given = decode(Package, loads(raw, what="recompute package"), what="recompute package")
    recipe = _planned_recipe(given, _plan(opened, statement))
    records = _retained(given, data, statement.predicate.data_after)
    result = _train(given, recipe, records, progress)
    if result.digest != statement.predicate.models.after:
        raise EvidenceError(
            "recomputation gave another model",
            expected=statement.predicate.models.after,
            got=result.digest,
            hint="do not co-sign; ask the owner",
        )
    envelope = sign_recompute(
        Recompute(
            certificate=statement.digest,
            model=result.digest,
            numerics=given.numerics,
            by=by,
            at=datetime.now(UTC),
        ),
        load_signer(key),
    )
    write_file(out, canonical(encode(envelope)))
    return Recomputed(model=result.digest, seconds=result.seconds, cosignature=out)


def _plan(bundle: Bundle, statement: Statement) -> Plan:
    plan = decode(Plan, bundle.json("plan.json"), what="plan.json")
    if digest_of(plan) != statement.predicate.plan.digest:
        raise _other("plan.json", statement.predicate.plan.digest, digest_of(plan))
    return plan


def _planned_recipe(package: Package, plan: Plan) -> AnyRecipe:
    recipe = parse_any_recipe(package.recipe, what="recompute package")
    if recipe.digest != plan.recipe:
        raise _other("recipe", plan.recipe, recipe.digest)
    if package.numerics != plan.numerics:
        raise _other("numerics", "those of the plan", "; ".join(package.numerics.differences(plan.numerics)))
    return recipe


def _retained(package: Package, data: str | None, after: DataRef) -> Any:
    """The second holder's own records in slot order, after their roots were found to be those of the certificate."""
    tombstones = [slot for slot, name in enumerate(package.ids) if name is None]
    if sorted(package.absent) != tombstones or len(package.blocks) != len(package.ids):
        raise _other(
            "tombstones", f"the {len(tombstones)} slots without an id", f"{len(package.absent)} slots, not the same"
        )
    if package.source != after.source:
        raise _other("data source", after.source, package.source)
    options = {**package.options, **({"path": str(Path(data).resolve())} if data else {})}
    opened = open_data({"source": package.source, "options": options}, package.items)
    if package.items is None:
        records = opened.aligned(package.ids, package.blocks)
    else:  # a user of whom nothing is left may have left the source; whoever else did, changes the root
        records = opened.aligned(package.ids, package.blocks, frozenset(filter(None, package.ids)))
    if package.cuts:
        records = _cuts(package.cuts).applied(records, _data_key(package))
    mine = _data_ref(package, records)
    for field in ("slots", "present", "root", "content_root"):
        expected, got = getattr(after, field), getattr(mine, field)
        if expected != got:
            raise _other(f"data ({field})", str(expected), str(got))
    return records


def _data_ref(package: Package, records: Any) -> DataRef:
    """What these rows are, by content: computed from ids and pixels that are here, from no digest in the package."""
    train = records.train
    rows = [(slot, name, train.content_digest(slot)) for slot, name in enumerate(package.ids) if name is not None]
    manifest = RecordManifest.build(rows, key=_data_key(package))
    return DataRef(
        source=package.source,
        slots=len(package.ids),
        present=manifest.size,
        root=manifest.root,
        content_root=manifest.content_root,
    )


def _cuts(plain: Mapping[str, Any]) -> Cuts:
    try:
        return Cuts.from_json(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the recompute package has no list of what shortened histories keep") from error


def _data_key(package: Package) -> bytes:
    try:
        return bytes.fromhex(package.key)
    except ValueError as error:
        raise InputError("the data key of the recompute package is not hex") from error


def _other(what: str, expected: str, got: str) -> EvidenceError:
    return EvidenceError(
        f"the package is of another model than the certificate: {what}",
        expected=expected,
        got=got,
        hint="do not co-sign; ask the owner",
    )


def _train(package: Package, recipe: AnyRecipe, records: Any, progress: Progress) -> FitResult:
    adapter = adapter_for(recipe.model_dump(), records)
    with tempfile.TemporaryDirectory(prefix="expunge-recompute-") as folder:
        job = FitJob(
            recipe=recipe.model_dump(),
            seed=package.seed,
            numerics=package.numerics,
            data=records,
            folder=Path(folder),
            absent=frozenset(package.absent),
            keep_checkpoints=False,
            progress=progress,
        )
        result: FitResult = adapter.fit(job)
        return result
