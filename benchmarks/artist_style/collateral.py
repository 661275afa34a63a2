"""What the figures of the check `collateral` look like on models whose worth is known.

    python benchmarks/artist_style/collateral.py [--only PART]

`none`: the original against itself (the noise is the same, so only its other seeds differ); `retrained`: a training without the
artist, which no honest limit may refuse; `uce`: a closed-form edit that keeps everybody else; `uce_keeps_nobody`: the same of
another artist and without anybody to keep, which ruins the others. Needs no photos: everything is drawn by the checkpoints
that ship. Writes collateral.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.data._styles import STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS
from expunge.stats.style_collateral import Limits, collateral_of
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import wording_of
from expunge.workflow.styles.collateral import Asking, ask_for
from expunge.workflow.styles.story import CHECKPOINTS, GOLD, ORIGINAL, TARGET

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recorded import record_parts

HERE = Path(__file__).parent
SEED = derive_seed("artist-styles collateral", ORIGINAL)
PICTURES, STEPS = 40, 10
OTHERS = tuple(style for style in TRAINED if STYLES[style].artist and style != TARGET)
ANOTHER = "mosaic"


def erase_job(model: TextToImage, style: str) -> EraseJob:
    """An artist by name and alias, led to photos; everybody else is to stay."""
    mine = wording_of(style)
    pairs = [
        (way(name, form), mine.neutral(name))
        for way in (mine.direct, mine.other["alias"])
        for name in OBJECTS
        for form in range(3)
    ]
    return EraseJob(
        model=model,
        erase=tuple(prompt for prompt, _ in pairs),
        guide=tuple(guide for _, guide in pairs),
        preserve=(
            *(wording_of(other).direct(name, 0) for other in OTHERS for name in OBJECTS),
            *map(mine.neutral, OBJECTS),
            "",
        ),
        seed=derive_seed(SEED, "erase"),
    )


def candidate(part: str, original: TextToImage) -> TextToImage:
    """The model of a part."""
    if part == "none":
        return original
    if part == "retrained":
        return TextToImage.from_dir(CHECKPOINTS / GOLD)
    job = erase_job(original, TARGET if part == "uce" else ANOTHER)
    if part == "uce_keeps_nobody":
        job = replace(job, preserve=(*map(wording_of(ANOTHER).neutral, OBJECTS), ""))
    edited: TextToImage = registry.load("erasers", "uce")().erase(job).model
    return edited


def measured(part: str) -> Mapping[str, Any]:
    """All figures, and the shares that the check holds to its limits."""
    started = time.perf_counter()
    original = TextToImage.from_dir(CHECKPOINTS / ORIGINAL)
    model = candidate(part, original)
    judges = [registry.load("judges", name)() for name in ("cnn", "adain")]
    asking = Asking(objects=OBJECTS, pictures=PICTURES, how=Sampling(seed=SEED, steps=STEPS))
    kept = [ask_for(style, wording_of(style), (original, model), judges, asking) for style in OTHERS]
    found = collateral_of(kept, Limits())
    if found.moved is None:
        raise SystemExit("no judge gives features")
    ends = {"edit": found.moved.edit, "seeds": found.moved.seeds}
    return {
        "pictures_a_style": PICTURES,
        "styles": len(OTHERS),
        "collateral": asdict(found),
        "shares_of_unit": {
            name: [found.moved.share(end) for end in (one.at_least, one.estimate, one.at_most)]
            for name, one in ends.items()
        },
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Measure one part, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only")
    args = parser.parse_args()
    names = ("none", "retrained", "uce", "uce_keeps_nobody")
    parts = {name: (lambda name=name: measured(name)) for name in names}
    record_parts(HERE / "collateral.json", "python benchmarks/artist_style/collateral.py", parts, args.only)


if __name__ == "__main__":
    main()
