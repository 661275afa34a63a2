"""What a search for works found, in words that do not say more: what was searched, by what, and what that does not find."""

from __future__ import annotations

from collections.abc import Mapping

from expunge.stats.intervals import share_at_least
from expunge.workflow.rights.policy import Limits
from expunge.workflow.rights.searching import Counts, Search, WorkFound

SOURCE = "Verma et al. 2024, arXiv 2410.15002"
SEARCHES: Mapping[str, str] = {
    "sha256": "file: SHA-256 of the bytes of every file in the source. One byte changed is not found.",
    "manifest": "manifest: the digest of caption and pixels that was committed to when the data came in, erased records too, "
    "tried with every caption in the source. Other pixels, or a caption that left with its record, are not found.",
    "pixels": "pixels: exactly the pixels that a training reads, after cutting and scaling as the loader does.",
    "perceptual": "likeness: a perceptual hash and a thumbnail, over cuts to 90 %, shifts by a sixteenth and mirror images. "
    "Smaller cuts, turned, recoloured, redrawn or collaged copies are not found.",
    "embedding": "embedding: a vision model of the owner's as a further vote on likeness; alone it decides nothing.",
}
"""Name of a search -> what it compares, and what it misses."""
_ABSENT: Mapping[str, str] = {
    "sha256": "file: not searched, because this source keeps no files.",
    "manifest": "manifest: not searched, because there are too many captions to try; works in emptied places are not found.",
    "embedding": "embedding: not searched, because no vision model was given.",
}


def words_of(found: Search, limits: Limits) -> list[str]:
    """Line by line."""
    counts = found.counts
    return [
        f"Entry {found.entry} of the log: {counts.listed} works are listed, {counts.brought} were brought and searched for.",
        *_not_brought(counts),
        *_results(counts),
        "",
        f"Searched: {counts.searched} of the {counts.records} records that are in the training data now.",
        *(f"  {SEARCHES[name]}" if name in counts.by else f"  {_ABSENT[name]}" for name in SEARCHES),
        *_calibration(counts),
        "",
        *_threshold(counts, limits),
        "",
        *(line for number, work in enumerate(found.works, start=1) for line in _work(number, work)),
        "Links by likeness are looked at by a person before anybody relies on them. A work that was not found was not found by "
        "these searches; that does not say that it was never in the data, nor anything of data that this workspace never had.",
    ]


def _not_brought(counts: Counts) -> list[str]:
    left = counts.listed - counts.brought
    return [f"{left} were not brought: of them this search says nothing."] if left else []


def _results(counts: Counts) -> list[str]:
    rows = [
        (counts.file, "as the same file"),
        (counts.pixels, "with the same pixels, and not as the same file"),
        (counts.near, "by likeness only"),
        (counts.erased, "only in places that are empty now (erased, or left out before training)"),
    ]
    return [
        *(f"  {number} found {words}" for number, words in rows),
        f"  {counts.missed} not found by these searches",
        f"  {counts.held_out} also look like works of the test split, on which nothing is trained",
    ]


def _calibration(counts: Counts) -> list[str]:
    found, planted = counts.planted
    linked, asked = counts.coincidences
    least = share_at_least(found, planted)
    rows = [
        f"Shown {planted} altered copies of these very works (saved again, cut to 90 %, shifted, mirrored, brightened), the "
        f"search by likeness finds {found}: at least {least:.0%} of such copies, at 95 % confidence."
    ]
    if asked:
        rows.append(f"Of {asked} works that nothing was trained on it links {linked} with a training record.")
    else:
        rows.append("No works are held out here, so how often it links different works is not measured on this data.")
    return rows


def _threshold(counts: Counts, limits: Limits) -> list[str]:
    low, high = limits.imitation_low, limits.imitation_high
    return [
        f"{counts.present} training records are one of the works: {_against(counts.present, limits)}.",
        f"The artists or groups under which those records stand have {counts.beside} records: {_against(counts.beside, limits)}.",
        f"The threshold is {low} to {high} works of a style, which models were found to need before they imitate it ({SOURCE}; "
        "other models, other data: an orientation, and no proof either way).",
    ]


def _against(count: int, limits: Limits) -> str:
    if count < limits.imitation_low:
        return "below the threshold"
    return "inside the threshold" if count < limits.imitation_high else "above the threshold"


def _work(number: int, work: WorkFound) -> list[str]:
    rows = [
        ("the same file as", work.file),
        ("the same pixels as", work.pixels),
        ("looks like", work.near),
        ("was in place", tuple(f"{slot}, which is empty now" for slot in work.erased)),
        ("looks like the test work", work.held_out),
    ]
    said = "; ".join(f"{words} {_some(names)}" for words, names in rows if names)
    return [f"work {number} ({work.work[:12]}…): {said or 'not found by these searches'}"]


def _some(names: tuple[str, ...]) -> str:
    left = len(names) - 3
    return ", ".join(ascii(name)[1:-1][:80] for name in names[:3]) + (f" and {left} more" if left > 0 else "")
