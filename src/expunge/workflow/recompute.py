"""A second key holder re-executes the recipe on the retained data; the same weights turn "as logged" into "recomputed"."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import EvidenceError, InputError
from expunge.core.plan import Numerics
from expunge.core.protocols import FitJob, Progress, silent
from expunge.data._records import aligned
from expunge.evidence.bundle import read_bundle
from expunge.evidence.durable import write_file
from expunge.evidence.envelope import payload_of
from expunge.evidence.keys import load_signer
from expunge.evidence.recompute import Recompute, sign_recompute
from expunge.evidence.statement import parse_statement
from expunge.farm.member import adapter_for, open_data
from expunge.training.recipe import parse_recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """What came of it; `cosignature` is the file to hand back to the owner and to relying parties."""

    model: str
    seconds: float
    cosignature: Path


def recompute(
    bundle: Path, package: Path, *, data: str | None, key: str, by: str, out: Path, progress: Progress = silent
) -> Recomputed:
    """Train from scratch with the recorded recipe, seed and tombstones on `data`, and sign if the weights are the same.

    `package` is the owner's recompute.json; `data` the second holder's own copy of the retained records; `key` the URI of
    their key. Raises EvidenceError when the weights differ, InputError when the numerics of this machine do.
    """
    statement = parse_statement(payload_of(read_bundle(bundle).json("certificate.json")))
    plain = loads(package.read_bytes(), what="recompute package")
    expected = statement.predicate.models.after
    result = _train(plain, data, progress)
    if result.digest != expected:
        raise EvidenceError(
            "recomputation gave another model",
            expected=expected,
            got=result.digest,
            hint="do not co-sign; ask the owner",
        )
    envelope = sign_recompute(
        Recompute(
            certificate=statement.digest,
            model=result.digest,
            numerics=decode(Numerics, plain["numerics"]),
            by=by,
            at=datetime.now(UTC),
        ),
        load_signer(key),
    )
    write_file(out, canonical(encode(envelope)))
    return Recomputed(model=result.digest, seconds=result.seconds, cosignature=out)


def _train(package: Mapping[str, Any], data: str | None, progress: Progress) -> Any:
    recipe = parse_recipe(package["recipe"], what="recompute package")
    options = {**package["options"], **({"path": str(Path(data).resolve())} if data else {})}
    records = aligned(open_data({"source": package["source"], "options": options}), package["ids"], package["blocks"])
    absent = frozenset(int(slot) for slot in package["absent"])
    kept = [slot for slot in absent if not records.train.ids[slot].startswith("tombstone/")]
    if kept:
        raise InputError("the package still names records it says are erased", got=f"{len(kept)} slots")
    adapter = adapter_for(recipe.model_dump(), records)
    with tempfile.TemporaryDirectory(prefix="expunge-recompute-") as folder:
        job = FitJob(
            recipe=recipe.model_dump(),
            seed=str(package["seed"]),
            numerics=decode(Numerics, package["numerics"]),
            data=records,
            folder=Path(folder),
            absent=absent,
            keep_checkpoints=False,
            progress=progress,
        )
        return adapter.fit(job)
