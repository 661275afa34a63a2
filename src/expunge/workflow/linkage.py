"""Near-duplicates of a request's records, searched before it is resolved: among all present records and the test split.

Nothing is deleted by closure. What is found outside the request belongs to somebody until a person has looked at it:
certificates count it, and the case's private folder names it for that person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core.codec import canonical, decimal, digest_of
from expunge.core.errors import IntegrityError
from expunge.core.protocols import HasWhiteBox, Linkage
from expunge.data._near import PIXELS, Index, Rule, Wanted, indexed, matches, thumbnails, unit, wanted
from expunge.data._twins import TWINS
from expunge.evidence.commitment import keyed
from expunge.evidence.durable import write_file
from expunge.farm.bank import read_arrays, write_sketch
from expunge.workflow.links import Links, search_users

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase, Resolution
    from expunge.workflow.workspace import Workspace

FEATURES = "features"  # of the served model, where its family lets them be read
FILE = "near.npz"
PLANTED = 60  # twins: all of them found bounds the recall below by .95
_VERSION = 1
_PAIRS = 20_000_000  # of which the features' cosine is a quantile
_SMALLEST = 8  # pixels a side: the hash needs 8 frequencies in either direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds for pictures of one size. `features_rate` is the share of pairs of different records whose features
    agree: every model has its own cosines, so the cosine is measured on it; None gives them no vote. `false_links` is
    the share of records that the search links with a different picture (upper 95 % limit of
    benchmarks/linkage/result.json)."""

    rule: Rule
    features_rate: float | None
    false_links: float


ORDINARY = Thresholds(
    rule=Rule(hash_agree=8, hash_alone=0, agree={PIXELS: 0.95}, alone={PIXELS: 0.98}),
    features_rate=1e-4,
    false_links=0.02,
)
SMALL = Thresholds(
    rule=Rule(hash_agree=10, hash_alone=0, agree={PIXELS: 0.985}, alone={PIXELS: 0.99}),
    features_rate=None,  # measured: they found no twin more, and linked twice as many digits of one class
    false_links=0.025,
)
SMALL_SIDE = 16  # pixels; below, hash and embedding have little more than what all digits share


def linkage_of(workspace: Workspace, resolution: Resolution) -> Linkage | None:
    """Counts for the check; None where the records are no pictures that can be searched. The same request, data and
    served model always give the same counts."""
    links = search(workspace, resolution)
    return None if links is None else links.counted


def log_links(workspace: Workspace, case: OpenCase, resolution: Resolution) -> dict[str, Any]:
    """What the log says of the search; the slots themselves go to the case's private folder, for a person to look at."""
    links = search(workspace, resolution)
    if links is None:
        return {"linkage": None}
    ids, test = workspace.book.ids, workspace.data.test.ids
    named = {
        "inside": [ids[slot] for slot in links.inside],
        "outside": [ids[slot] for slot in links.outside],
        "test": [test[row] for row in links.test],
    }
    write_file(case.private / "near-duplicates.json", canonical(named), mode=0o600)
    found = {"inside": len(links.inside), "outside": len(links.outside), "test": len(links.test)}
    return {"linkage": {**found, "recall": list(links.recall), "thresholds": dict(links.thresholds)}}


def search(workspace: Workspace, resolution: Resolution) -> Links | None:
    """Look every record of the request up, then plant twins of them and count how many the same search would find."""
    train = workspace.data.train
    if workspace.policy.kind == "recommender":
        return search_users(workspace, resolution)
    if min(train.images.shape[1:3]) < _SMALLEST or train.images.shape[3] not in (1, 3):
        return None
    searcher = Searcher.of(workspace)
    mine, split = set(resolution.slots), len(train)
    ones = {slot: wanted(train.images[slot], searcher.embed) for slot in resolution.slots}
    pairs = [(slot, int(row)) for slot, one in ones.items() for row in matches(searcher.index, one, searcher.rule)]
    others = {row for slot, row in pairs if row != slot}
    seed = keyed(workspace.secret("linkage"), resolution.commitment.encode())
    return Links(
        inside=tuple(sorted(others & mine)),
        outside=tuple(sorted(row for row in others - mine if row < split)),
        test=tuple(sorted(row - split for row in others if row >= split)),
        recall=planted_recall(searcher, train.images, ones, int.from_bytes(seed[:8], "big")),
        thresholds=searcher.thresholds,
    )


def planted_recall(searcher: Searcher, images: Any, ones: Mapping[int, Wanted], seed: int) -> tuple[int, int]:
    """(found, planted), over pictures of `images` by the numbers that `ones` has: every kind of twin in turn, of a picture that
    is drawn, with drawn strength."""
    generator = np.random.Generator(np.random.Philox(seed))
    kinds, slots = list(TWINS.values()), list(ones)
    drawn = [slots[int(generator.integers(len(slots)))] for _ in range(PLANTED)]
    twins = np.stack([kinds[k % len(kinds)](images[slot], generator) for k, slot in enumerate(drawn)])
    planted = indexed(twins, searcher.embed)
    found = sum(
        k in matches(replace(planted, present=np.arange(PLANTED) == k), ones[slot], searcher.rule)
        for k, slot in enumerate(drawn)
    )
    return found, PLANTED


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """Index over training slots, then test rows; how to embed a picture; and when two are the same."""

    index: Index
    embed: Mapping[str, Callable[[Any], Any]]
    rule: Rule
    thresholds: Mapping[str, str]

    @classmethod
    def of(cls, workspace: Workspace) -> Searcher:
        """Over what is present now. The index file lies in the served model's folder and is destroyed with it."""
        small = min(workspace.data.train.images.shape[1:3]) < SMALL_SIDE
        measured = SMALL if small else ORDINARY
        embed = _embeddings(workspace, measured)
        index, rule = _index(workspace, embed), measured.rule
        if FEATURES in embed and measured.features_rate is not None:
            cosine = cosine_beyond(index, FEATURES, measured.features_rate)
            rule = replace(rule, agree={**rule.agree, FEATURES: cosine})
        return cls(index=index, embed=embed, rule=rule, thresholds=_recorded(rule, measured))


def _embeddings(workspace: Workspace, measured: Thresholds) -> dict[str, Callable[[Any], Any]]:
    found: dict[str, Callable[[Any], Any]] = {PIXELS: thumbnails}
    if workspace.state().model is None:
        return found
    adapter = workspace.adapter
    if measured.features_rate is not None and isinstance(adapter, HasWhiteBox):
        model = workspace.adapter.load(workspace.root / workspace.served().run / "model.safetensors")
        found[FEATURES] = lambda images: unit(np.asarray(adapter.features(model, images), np.float32))
    return found


def _index(workspace: Workspace, embed: Mapping[str, Callable[[Any], Any]]) -> Index:
    """The cached index if it is of this model, this data and this code; otherwise a new one. 0600: a hash of a picture
    says which picture it was. Erased slots are blank and may not be found. Without a model there is no place for the file."""
    data = workspace.data

    def anew() -> Index:
        return indexed(np.concatenate([data.train.images, data.test.images]), embed)

    present = np.array([name is not None for name in workspace.book.ids] + [True] * len(data.test))
    if workspace.state().model is None:
        return replace(anew(), present=present)
    key, file = _key(workspace, embed), workspace.root / workspace.served().run / FILE
    cached = _read(file, key)
    if cached is None:
        workspace.progress("near-duplicate index", 0, 1)
        cached = anew()
        arrays = {f"of {name}": table.astype(np.float16) for name, table in cached.embeddings.items()}
        write_sketch(file, {"key": np.array(key), "hashes": cached.hashes, **arrays})
        cached = _read(file, key) or cached  # rounded like every later reading of it
    return replace(cached, present=present)


def _key(workspace: Workspace, embed: Mapping[str, Any]) -> str:
    """Content address of an index."""
    test = hashlib.sha256(np.ascontiguousarray(workspace.data.test.images).tobytes()).hexdigest()
    return digest_of(
        {
            "version": _VERSION,
            "model": workspace.served().digest,
            "train": hashlib.sha256("|".join(digest or "" for digest in workspace.book.digests).encode()).hexdigest(),
            "test": test,
            "embeddings": sorted(embed),
        }
    )


def _read(file: Path, key: str) -> Index | None:
    """An index file, or None if there is none with this key; a damaged one is made again."""
    if not file.exists():
        return None
    try:
        arrays = read_arrays(file)
    except IntegrityError:
        return None
    if str(arrays.get("key")) != key:
        return None
    tables = {name[3:]: unit(table.astype(np.float32)) for name, table in arrays.items() if name.startswith("of ")}
    hashes = arrays["hashes"]
    return Index(hashes=hashes, embeddings=tables, present=np.ones(len(hashes), bool))


def cosine_beyond(index: Index, name: str, rate: float) -> float:
    """The cosine that a share `rate` of the pairs of different present records exceeds; real near-duplicates are far too
    few among all pairs to move it. The sample is every k-th record, so that the same index gives the same threshold."""
    rows = np.flatnonzero(index.present)
    table = index.embeddings[name][rows]
    sample = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 1 + _PAIRS // len(rows))).round().astype(int))
    cosines = table[sample] @ table.T
    cosines[np.arange(len(sample)), sample] = -1.0
    beyond = max(1, int(rate * cosines.size))
    return float(np.partition(cosines.ravel(), cosines.size - beyond)[cosines.size - beyond])


def _recorded(rule: Rule, measured: Thresholds) -> dict[str, str]:
    """All thresholds as decimals."""
    numbers: dict[str, float] = {"hash_agree": rule.hash_agree, "hash_alone": rule.hash_alone}
    numbers |= {f"{name}_agree": value for name, value in rule.agree.items()}
    numbers |= {f"{name}_alone": value for name, value in rule.alone.items()}
    if FEATURES in rule.agree and measured.features_rate is not None:
        numbers["features_rate"] = measured.features_rate
    numbers["false_links"] = measured.false_links
    return {name: decimal(float(f"{value:.4g}")) for name, value in numbers.items()}
