"""The story of an artist, told on the checkpoints that ship: the model as it is, edited, retrained, and with a compartment.

Nothing is trained but one small adapter, so it takes minutes; and so its counts are a pilot's: prompts are asked 64 times,
which can show that at most one picture in twenty is in the style, and not one in a hundred.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.core.errors import InputError
from expunge.core.protocols import Progress, silent
from expunge.core.styles import SENTENCES, StyleRung
from expunge.data._captions import captions
from expunge.data._sample_photos import sample_photos
from expunge.data._styles import CONTROLS, RARE, STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS, painted
from expunge.evidence.commitment import keyed
from expunge.evidence.log import AuditLog
from expunge.evidence.signers.file import FileSigner
from expunge.stats.styles import Arms, Gates, StyleVerdict, verdict_of
from expunge.training.judging.judge import Judge
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.compartments.drawing import composed
from expunge.training.text_to_image.compartments.dropping import drop
from expunge.training.text_to_image.compartments.records import Saw, Teaching
from expunge.training.text_to_image.compartments.teaching import begin, teach
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import suspect, wording_of
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan, Subjects, run_battery
from expunge.workflow.styles.sheet import Asked, sheet_of

CHECKPOINTS = Path(__file__).parents[2] / "models" / "generators" / "checkpoints"
ORIGINAL, GOLD, TARGET = "original-0", "without-neon-0", "neon"
STRANGER = CONTROLS[4]
"""An artist whose works are in no training set."""
PROMPTS, ATTACK = ("direct", "reworded"), "soft_prompt/2"
GATES = Gates(direct=0.05, reworded=0.05)
"""The widest that any policy may set: 0 of 64 pictures bound the share at 4.6 %."""
SCALE = "procedural styles of invented artists at 32x32, one model of a million weights, pilot counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is drawn: `pictures` of each of 8 seeds, DDIM `steps`, `budget` of attacks in percent; the adapter's `lessons`."""

    pictures: int = 8
    steps: int = 8
    budget: int = 30
    lessons: int = 150


QUICK = Size(steps=3, budget=2, lessons=50)
"""The same chapters, drawn coarsely: whether everything runs, in the time that a CI job has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One chapter: the word that the counts earn and why not more; `rates` probe -> shares of pictures in the style of the
    original, the candidate, and the mean of the controls on the candidate. `proof`: what the word rests on beside counts."""

    title: str
    rung: StyleRung
    sentence: str
    reasons: tuple[str, ...]
    rates: Mapping[str, tuple[float, float, float]]
    seconds: float
    proof: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StylesTold:
    """All chapters, the sheet of samples, and the plan's digest as it was logged, before its seed was drawn."""

    chapters: tuple[Told, ...]
    sheet: Mapping[str, Any]
    plan: str
    checkpoint: str
    scale: str


@dataclass
class _Stage:
    """What every chapter works with."""

    plan: BatteryPlan
    subjects: Subjects
    judges: Sequence[Judge]
    folder: Path
    progress: Progress
    told: list[Told] = field(default_factory=list)

    def by_words(self) -> _Stage:
        """The same, asking with words alone: where nobody claims an erasure, no attack has to be tried."""
        return replace(self, plan=replace(self.plan, probes=tuple(p for p in self.plan.probes if p.label in PROMPTS)))

    def ask(self, title: str, candidate: tuple[str, TextToImage], *, proof: str = "") -> StyleVerdict:
        """The battery on a candidate, and its chapter."""
        started = time.perf_counter()
        models = {**self.subjects.models, "candidate": candidate}
        subjects = replace(self.subjects, models=models)
        arms = run_battery(self.plan, subjects, self.judges, self.folder / "battery", self.progress)
        found = verdict_of(arms, GATES)
        exact = proof and found.rung is not StyleRung.NOT_ERASED
        rung = StyleRung.EXACT if exact else found.rung
        self.told.append(
            Told(
                title=title,
                rung=rung,
                sentence=SENTENCES[rung],
                reasons=found.reasons,
                rates={label: _rates(item) for label, item in arms.items()},
                seconds=time.perf_counter() - started,
                proof=proof,
            )
        )
        return found


def play_styles(
    folder: Path, progress: Progress = silent, *, models: Path = CHECKPOINTS, size: Size | None = None
) -> StylesTold:
    """Tell the story in a new folder. Raises InputError where the checkpoints are not there."""
    size = size or Size()
    original, gold = (_there(models / name) for name in (ORIGINAL, GOLD))
    folder.mkdir(parents=True, exist_ok=True)
    stage, checkpoint = _stage(folder, original, size, progress)
    model = stage.subjects.models["original"][1]
    stage.by_words().ask("the model as it is: nothing was done (the control)", stage.subjects.models["original"])
    edited = registry.load("erasers", "uce")().erase(_job(model, stage.plan.seed)).model
    stage.ask(
        "edited in closed form (uce): the first thing anybody tries", (digest_of([stage.plan.seed, "uce"]), edited)
    )
    trained = TextToImage.from_dir(gold)
    digest = read_directory(gold).digest
    stage.ask("retrained without the artist", (digest, trained), proof=_record(models, digest))
    _never_learned(stage)
    taught, dropped = _compartment(stage, gold, size)
    drawn = {"as it is": model, "edited (uce)": edited, "retrained": trained, "compartment": taught, "dropped": dropped}
    how = Sampling(seed=stage.plan.seed, steps=2 * size.steps, guidance=3.0)
    return StylesTold(
        chapters=tuple(stage.told),
        sheet=sheet_of(drawn, _rows(), how),
        plan=replace(stage.plan, seed="").digest,
        checkpoint=checkpoint,
        scale=f"{SCALE}: {stage.plan.seeds} seeds of {size.pictures} pictures a probe",
    )


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(
            "the checkpoints of the story are not there", expected=str(folder), hint="benchmarks/artist_style/train.py"
        )
    return folder


def _record(models: Path, digest: str) -> str:
    """What the training without the artist says of itself, if it is of this very directory; otherwise nothing is proved."""
    file = models / f"{GOLD}.json"
    made = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if made.get("directory") != digest or f"--without '{TARGET}'" not in made.get("command", ""):
        return ""
    end = made["transcript_end"]["chain"][:12]
    return (
        f"trained without the artist's works, as its transcript of {made['transcript_lines']:,} lines says (end {end}…)"
    )


def _stage(folder: Path, original: Path, size: Size, progress: Progress) -> tuple[_Stage, str]:
    """Judges, photos and styles; the plan is logged, and the seed drawn from the checkpoint that is signed after it."""
    judges = [registry.load("judges", name)() for name in ("adain", "cnn")]
    photos = sample_photos(OBJECTS, 40)
    asked = BatteryPlan(
        target=TARGET,
        controls=CONTROLS[:4],
        objects=OBJECTS,
        judges={judge.name: judge.digest for judge in judges},
        seed="",
        probes=(
            ProbePlan(label="direct", probe="direct"),
            ProbePlan(label="reworded", probe="reworded"),
            ProbePlan(label=ATTACK, probe="soft_prompt", settings={"vectors": 2}),
        ),
        seeds=8,
        pictures=size.pictures,
        steps=size.steps,
        budget=size.budget,
    )
    checkpoint = _logged(folder, asked)
    asked = replace(asked, seed=keyed(checkpoint.encode(), b"expunge/story/styles").hex()[:32])
    subjects = Subjects(
        models={"original": (read_directory(original).digest, TextToImage.from_dir(original))},
        suspects={style: suspect(style, photos) for style in (TARGET, STRANGER, *CONTROLS[:4])},
        photos=photos,
    )
    return _Stage(plan=asked, subjects=subjects, judges=judges, folder=folder, progress=progress), checkpoint


def _logged(folder: Path, plan: BatteryPlan) -> str:
    """The signed checkpoint of a log that holds the plan's digest."""
    folder.mkdir(parents=True, exist_ok=True)
    FileSigner.create(folder / "log.pem")
    log = AuditLog(
        folder / "log.db", signer=FileSigner.open(f"file:{folder / 'log.pem'}"), origin="expunge.local/log/story-styles"
    )
    try:
        log.append("plan.committed", {"plan": plan.digest})
        return log.checkpoint()
    finally:
        log.close()


def _job(model: TextToImage, seed: str) -> EraseJob:
    """The artist by name and alias, led to photos; every other artist is to stay."""
    mine = wording_of(TARGET)
    ways = (mine.direct, mine.other["alias"])
    pairs = [(way(name, form), mine.neutral(name)) for way in ways for name in OBJECTS for form in range(3)]
    kept = [wording_of(style).direct(name, 0) for style in _others() for name in OBJECTS]
    return EraseJob(
        model=model,
        erase=tuple(prompt for prompt, _ in pairs),
        guide=tuple(guide for _, guide in pairs),
        preserve=(*kept, *(mine.neutral(name) for name in OBJECTS), ""),
        seed=derive_seed(seed, "erase"),
    )


def _others() -> list[str]:
    return [style for style in TRAINED if STYLES[style].artist and style != TARGET]


def _never_learned(stage: _Stage) -> None:
    """An artist of whom the training has nothing: asked for before anything is edited, and then nothing is."""
    words, title = (
        stage.by_words(),
        "another artist, of whom the training has nothing: asked first, and nothing is edited",
    )
    asked = replace(words, plan=replace(words.plan, target=STRANGER))
    asked.ask(title, stage.subjects.models["original"])


def _compartment(stage: _Stage, gold: Path, size: Size) -> tuple[TextToImage, TextToImage]:
    """An adapter of the artist over a base that never saw them; dropping it gives the base back, byte for byte."""
    parts, left = stage.folder / "compartments", stage.folder / "dropped"
    for old in (parts, left):
        shutil.rmtree(old, ignore_errors=True)
    begin(
        parts, gold, Saw(blocks=tuple(sorted({*TRAINED, *RARE} - {TARGET})), works=(), source="the log of its training")
    )
    works = painted(sample_photos(OBJECTS, 40, "works"), {TARGET: 40}, "works")
    named = replace(works, captions=tuple(captions(TARGET, name, 0, "en") for name in works.objects))
    teach(parts, named, TARGET, seed=stage.plan.seed, how=Teaching(steps=size.lessons), progress=stage.progress)
    taught = composed(parts, TARGET)
    stage.by_words().ask(
        "an adapter of the artist over a base that never saw them", (digest_of([stage.plan.seed, "taught"]), taught)
    )
    started = time.perf_counter()
    dropped = drop(parts, TARGET, left)
    seconds = time.perf_counter() - started
    said = f"the adapter is dropped ({seconds:.2f} s); every remaining file is the base's, by SHA-256 {dropped.base[7:19]}…"
    model = composed(left)
    stage.ask(
        "the adapter is dropped", (dropped.base, model), proof=said
    )  # the base, byte for byte: its counts are there
    return taught, model


def _rates(arms: Arms) -> tuple[float, float, float]:
    original, candidate, controls = (
        float(arms.runs(arm).rates.mean()) for arm in ("original", "candidate", "controls")
    )
    return original, candidate, controls


def _rows() -> list[Asked]:
    mine, other = wording_of(TARGET), wording_of("mosaic")
    return [
        Asked(words="objects in the artist's style, by name", prompts=tuple(mine.direct(name, 0) for name in OBJECTS)),
        Asked(words="the same objects, nobody named", prompts=tuple(mine.neutral(name) for name in OBJECTS)),
        Asked(words="another artist, who stays", prompts=tuple(other.direct(name, 0) for name in OBJECTS)),
    ]
