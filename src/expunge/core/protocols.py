"""The seams. Plug-ins implement these; the nouns that travel across them are frozen and say their shapes.

Letters used everywhere: N records, M models, K classes, P parameters, R records of the block under test, Z population.
Arrays are typed `Any` here because this floor knows no numpy; the docstrings give shape and unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from expunge.core.finding import Finding, Guarantee, MembershipScores
from expunge.core.ladder import Ladder
from expunge.core.plan import Compute, Cost, Numerics
from expunge.core.shortened import Shortened
from expunge.core.styles import StyleEvidence

Array = Any
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


# ---------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True, slots=True, kw_only=True)
class FitJob:
    """One training, completely: the same job gives the same weights on the same Numerics.

    `data` is a data-floor Dataset. `universe` is the ascending tuple of slots this training owns (None = all); `absent`
    are tombstones: their place in every batch stays empty and denominators stay fixed, so that the presence of one
    record changes nothing else. `leaves` maps slot -> (id leaf, content leaf) for loader receipts. `folder` receives
    checkpoints, transcript and model.
    """

    recipe: Mapping[str, Any]
    seed: str
    numerics: Numerics
    data: Any
    folder: Path
    universe: tuple[int, ...] | None = None
    absent: frozenset[int] = frozenset()
    leaves: Any = None
    keep_checkpoints: bool = True
    progress: Progress = silent


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """A finished training: `digest` is of the tensors (Merkle root); `figures` are what a method says of itself."""

    digest: str
    model: Path
    transcript: Path | None
    seconds: float
    steps: int
    resumed_at: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class ModelAdapter(Protocol):
    """One model family. The user's module is never wrapped or mutated: same class, same state-dict keys come back."""

    family: str

    def fit(self, job: FitJob) -> FitResult:
        """Train from scratch, or continue this very job where a killed process left it."""

    def load(self, path: Path) -> Any:
        """The model in a safetensors file. Raises IntegrityError on truncation or foreign tensors."""

    def outputs(self, model: Any, images: Array) -> Array:
        """Log-probabilities, shape (N, K), float32, at test time (augmentation off)."""

    def derived_state(self) -> tuple[str, ...]:
        """Artefacts beside the weights that derive from training data (optimiser, BatchNorm buffers, caches)."""


@runtime_checkable
class HasTranscript(Protocol):
    """The family trains step by step from a keyed order, so a run can be replayed from a checkpoint."""

    def first_use(self, job: FitJob, slots: frozenset[int]) -> int:
        """Global step at which any of the slots is first read."""

    def total_steps(self, job: FitJob) -> int:
        """Steps of the whole job."""

    def replay(self, job: FitJob, source: Path, forget: frozenset[int]) -> FitResult:
        """Fit `job`, whose absent slots are those of the run in `source` plus `forget`, from that run's last
        checkpoint before any of `forget` was read."""

    def replay_steps(self, job: FitJob, slots: frozenset[int]) -> int:
        """Steps a replay without the slots has to run."""


@runtime_checkable
class HasShards(Protocol):
    """The family can be trained as S shards by R slices and aggregated."""

    def shards(self, job: FitJob) -> tuple[tuple[int, ...], ...]:
        """Slots of each shard."""


@runtime_checkable
class HasGradients(Protocol):
    """The family can be trained further from given weights."""

    def tune(self, job: FitJob, start: Path, settings: Mapping[str, Any]) -> FitResult:
        """Continue from the weights in `start` on the present records; `settings` override recipe fields."""


@runtime_checkable
class HasSufficientStatistics(Protocol):
    """The family is a formula of sums over records, so records can be taken out of the sums (Cao and Yang 2015)."""

    def downdate(self, job: FitJob, source: Path, forget: frozenset[int], before: Any = None) -> FitResult:
        """The model of the run in `source` without the slots of `forget`, which `job.absent` names too: what a fit of
        `job` gives, integer for integer. `before`: the data `source` saw, where their rows only become shorter."""


@runtime_checkable
class HasWarmStart(Protocol):
    """The family is solved in sweeps, and can go on sweeping from what an earlier run ended with."""

    def warm(self, job: FitJob, source: Path, forget: frozenset[int], sweeps: int) -> FitResult:
        """Sweep `sweeps` times from the factors of the run in `source`, without the slots of `forget`, which
        `job.absent` names too."""


# ----------------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlearnJob:
    """What a method receives. `job` describes the original training; `forget` are the slots to remove.

    `source` is the original run's folder (read only), `target` where the new run goes. `seed` is drawn after the plan was
    logged (VERDICTS section 4); exact methods use the original seed. `shortened`: where events go and not slots.
    """

    adapter: Any
    job: FitJob
    source: Path
    target: Path
    forget: frozenset[int]
    seed: str
    params: Mapping[str, str] = field(default_factory=dict)
    shortened: Shortened | None = None

    @property
    def wanted(self) -> FitJob:
        """The training whose result an exact method has to give: in `target`, on what is retained."""
        if self.shortened is None:
            return replace(self.job, folder=self.target, absent=self.job.absent | self.forget)
        return replace(self.job, folder=self.target, data=self.shortened.data, leaves=self.shortened.leaves)


@runtime_checkable
class Unlearner(Protocol):
    """One unlearning method. `aims_at` is what its card states; only checks grant it.

    `needs` is a capability protocol; `Config` a frozen dataclass with defaults; `shortens = True`: also where events go.
    """

    aims_at: Guarantee
    needs: type
    Config: type

    def refuses(self, job: UnlearnJob) -> str | None:
        """Why this method cannot run on this job, or None."""

    def cost(self, job: UnlearnJob) -> float:
        """Expected work as a fraction of one full retraining (0 to 1+)."""

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """A new run in `job.target`; `job.source` is not touched."""


# ----------------------------------------------------------------------------------------------------------- attacks


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackJob:
    """Signals an attack scores: natural-log probabilities of the true class, float, at most 0; or, for an attack that
    is a `Probe`, what its own `measure` returned, finite floats, higher = more likely a member.

    target (T, R): T models to be scored on the R records of the block.
    reference (M, R), member (M, R) bool: bank models outside the targets' own pairs, and whether they trained on each.
    target_population (T, Z), reference_population (M, Z): the same on Z records that no model trained on.
    """

    target: Array
    reference: Array
    member: Array
    target_population: Array
    reference_population: Array


@runtime_checkable
class Attack(Protocol):
    """Scores, nothing else. Higher = more likely a member."""

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores of shape (T, R)."""


# ------------------------------------------------------------------------------------------------------------ probes


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeJob:
    """One model under a probe. The same probe runs on every arm, with the same seed and the same records.

    `model` is loaded from the file `weights`; `partner` is the weights file of the pair's IN model (of the original,
    for candidate and anchors). `fit` is the training of this very model without the block: its `universe` minus
    `absent` are records it may legitimately be trained further on, its `folder` is scratch. `data` is the data-floor
    Dataset; `block`, `neighbours` and `retained` are slots of `data.train` (under test; the nearest retained
    neighbours of the block; a sample outside both that every arm treats alike), `population` rows of `data.test`.
    """

    adapter: Any
    model: Any
    weights: Path
    partner: Path | None
    fit: FitJob
    data: Any
    block: tuple[int, ...]
    neighbours: tuple[int, ...]
    retained: tuple[int, ...]
    population: tuple[int, ...]
    seed: int


@runtime_checkable
class Probe(Protocol):
    """An attack or a check that must look at models itself. The farm runs it on every arm; checks never see a model.

    `requires` is a capability protocol of the adapter; without it the plug-in is reported as not applicable.
    """

    requires: type

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """Named float arrays, the same names and shapes on every model. An attack returns `block` (R,) and
        `population` (Z,). Must not change the model or any file outside `job.fit.folder`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one probe returned: per complement pair k of n for the arms (unlearned None = no X arm), and per model for
    the served file, the original and the full-size anchors that saw (`in_anchors`) or never saw the block."""

    out: Sequence[Mapping[str, Array]]
    into: Sequence[Mapping[str, Array]]
    unlearned: Sequence[Mapping[str, Array]] | None
    candidate: Mapping[str, Array] | None = None
    original: Mapping[str, Array] | None = None
    out_anchors: Sequence[Mapping[str, Array]] = ()
    in_anchors: Sequence[Mapping[str, Array]] = ()


@runtime_checkable
class HasWhiteBox(Protocol):
    """The family's insides can be read, record by record, at test time (augmentation off, BatchNorm frozen)."""

    def features(self, model: Any, images: Array) -> Array:
        """Activations before the last linear layer, (N, F), float32."""

    def gradients(self, model: Any, images: Array, labels: Array, *, project: int = 0, seed: int = 0) -> Array:
        """Per-record gradient of the cross-entropy in the parameters, (N, P) float32; `project` > 0 gives a seeded
        random projection (N, project) whose inner products are unbiased (Johnson-Lindenstrauss)."""

    def gradient_norms(self, model: Any, images: Array, labels: Array) -> Array:
        """Euclidean norm of the same, (N,), without holding (N, P)."""

    def curvatures(self, model: Any, images: Array, labels: Array, *, probes: int = 8, seed: int = 0) -> Array:
        """Hutchinson estimate of the trace of the loss's Hessian in the input, (N,), from `probes` Rademacher draws."""

    def flat_weights(self, model: Any) -> Array:
        """All trainable parameters as one vector (P,), in the order `gradients` uses."""


# ------------------------------------------------------------------------------------------------------------ checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Log-probabilities of the true class from the bank, per complement pair k of n (or a probe's signal).

    out, into (n, R): the model of the pair that did not, and that did train on the block. unlearned (n, R) or None:
    the IN model after the method ran on it. *_population (n, Z): the same models on records nobody trained on.
    """

    out: Array
    into: Array
    unlearned: Array | None
    out_population: Array
    into_population: Array
    unlearned_population: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The served file against full-size anchors trained before the request: log-probabilities of the true class.

    candidate, original (1, R); out_anchors (A, R), in_anchors (B, R); *_population: the same on Z unseen records.
    """

    candidate: Array
    original: Array
    out_anchors: Array
    in_anchors: Array
    candidate_population: Array
    original_population: Array
    out_population: Array
    in_population: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Correctness:
    """Per-record correctness (bool) on the holdout, with class labels, of candidate, original and references (M, N)."""

    labels: Array
    candidate: Array
    original: Array
    references: Array
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What the owner logged about candidate and original, and what an honest run must have logged.

    Transcripts are parsed lines. `expected` are the step and epoch lines worked out from recipe, seed and retained
    records alone. `forgotten` counts forgotten leaves found in the retained manifest (ids, contents). Indices are
    positions in the log.
    """

    expected: Sequence[Mapping[str, Any]]
    candidate: Sequence[Mapping[str, Any]]
    original: Sequence[Mapping[str, Any]]
    candidate_digest: str
    plan_index: int
    result_index: int
    forgotten: tuple[int, int]
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """X models that got the block back at a known dose (times it was shown again): a method that blinds the attack
    shows no response. `measured` are the same models under the probes, by `attacks/name`."""

    dose: int
    unlearned: Array
    unlearned_population: Array
    measured: Mapping[str, Sequence[Mapping[str, Array]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linkage:
    """Near-duplicates of the block, searched before the request was resolved.

    `inside` travel with the block, `outside` belong to other people's retained records (never deleted by closure).
    `recall` is (found, planted) of re-encodes and crops planted to measure the search. `thresholds` are recorded.
    `test` counts near-duplicates in the test split: nothing is trained on them, but they are the person's pictures.
    """

    inside: int
    outside: int
    recall: tuple[int, int]
    thresholds: Mapping[str, str]
    test: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coins:
    """One-run canaries: `trained` (m,) bool are the coins the verifier holds (heads = trained, then deleted with the
    batch; tails = never seen), the scores (m,) of candidate and original, higher = more likely a member."""

    trained: Array
    candidate: Array
    original: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckJob:
    """Everything a check may look at. workflow/execute makes it; a check never calls a method.

    `bank_refusal` says why a bank that exists cannot judge this block; then `arms` and `deployed` are None.
    `measured` holds what probes returned, by `attacks/name` or `checks/name`; `unable` says why one could not run.
    `canary_power` is the power at which the workspace's planted d = 3 canaries were detected; None = not measured.
    `looks` counts the requests judged on this bank before, and `found` those of them in which a residue was found.
    `ladder` is of a recommender, `styles` of a text-to-image model; what belongs to other kinds is None.
    """

    limits: Any
    guarantee: Guarantee
    seed: int
    signals: tuple[str, ...] = ()
    bank_refusal: str | None = None
    arms: Arms | None = None
    deployed: Deployed | None = None
    correctness: Correctness | None = None
    provenance: Provenance | None = None
    attempt: int = 1
    measured: Mapping[str, Measured] = field(default_factory=dict)
    spikes: tuple[Spike, ...] = ()
    linkage: Linkage | None = None
    coins: Coins | None = None
    unable: Mapping[str, str] = field(default_factory=dict)
    canary_power: float | None = None
    looks: int = 0
    found: int = 0
    ladder: Ladder | None = None
    styles: StyleEvidence | None = None


@runtime_checkable
class Check(Protocol):
    """One question. A failed check is a Finding, a broken one raises CheckBroken."""

    question: str

    def run(self, job: CheckJob) -> Finding:
        """Candidate, original and references, in one Finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A unit of work by name and JSON arguments; `key` is its digest, so the same task is never done twice."""

    function: str
    arguments: Mapping[str, Any]
    label: str = ""


@runtime_checkable
class Executor(Protocol):
    """Runs tasks. The outcome does not depend on which executor ran them."""

    def run(self, tasks: Sequence[Task], folder: Path, compute: Compute, progress: Progress) -> list[Mapping[str, Any]]:
        """Published results in the order of the tasks; anything already published is not recomputed."""


@runtime_checkable
class Signer(Protocol):
    """Signs bytes; chosen by key URI scheme."""

    keyid: str

    def sign(self, payload: bytes) -> bytes:
        """Raw signature bytes."""

    def public_bytes(self) -> bytes:
        """Raw 32-byte Ed25519 public key."""


__all__ = [
    "Arms",
    "Array",
    "Attack",
    "AttackJob",
    "Check",
    "CheckJob",
    "Coins",
    "Compute",
    "Correctness",
    "Cost",
    "Deployed",
    "Executor",
    "FitJob",
    "FitResult",
    "HasGradients",
    "HasShards",
    "HasSufficientStatistics",
    "HasTranscript",
    "HasWarmStart",
    "HasWhiteBox",
    "Linkage",
    "Measured",
    "ModelAdapter",
    "Probe",
    "ProbeJob",
    "Progress",
    "Provenance",
    "Signer",
    "Spike",
    "Task",
    "UnlearnJob",
    "Unlearner",
    "silent",
]
