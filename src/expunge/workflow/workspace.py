"""A workspace on disk, and the Python API. The verbs of the command line call exactly these methods.

expunge.toml, policy.yaml, recipe.yaml · keys/ (0600) · log.db · store/ (slots, models, runs, banks) · cases/<id>/
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import yaml

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.documents import strict_yaml
from expunge.core.errors import InputError, IntegrityError, StorageError, WorkspaceBusy
from expunge.core.plan import Compute, Numerics
from expunge.core.policy import Policy
from expunge.core.protocols import FitJob, Progress, silent
from expunge.core.refs import ModelRef
from expunge.core.request import EventSelector
from expunge.evidence.commitment import KeyFile, derive
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.keys import Root, TrustRoots, load_signer, write_roots
from expunge.evidence.log import AuditLog
from expunge.evidence.signers.file import FileSigner
from expunge.farm.bank import Bank
from expunge.farm.member import adapter_for
from expunge.farm.opened import open_data
from expunge.training.loop import numerics_of
from expunge.training.recipe import AnyRecipe, parse_any_recipe
from expunge.workflow.coins import coins_commitment
from expunge.workflow.config import Config, config_text, drawn, origin_of, parse_config, read_config
from expunge.workflow.heeding import enforcement_of, heed
from expunge.workflow.places import check_places
from expunge.workflow.policy import DEFAULT, check_kind, check_recipe, parse_policy, policy_digest, read_policy
from expunge.workflow.slots import SlotBook
from expunge.workflow.state import ModelRecord, State
from expunge.workflow.styles.roster import check_roster, log_roster

if TYPE_CHECKING:
    from expunge.training.judging.judge import Judge
    from expunge.workflow.selftest.gate import Vouched
    from expunge.workflow.styles.roster import Roster

KEYS = ("operator", "verifier", "log")
VOCABULARY = "store/items.json"


class Workspace:
    """An opened workspace. One process at a time: opening takes the lock, closing gives it back."""

    def __init__(self, root: Path, *, progress: Progress = silent) -> None:
        self.root = root
        self.progress = progress
        self.config: Config = read_config(root / "expunge.toml")
        self.policy: Policy = read_policy(root / "policy.yaml")
        self._lock = _take_lock(root)
        try:
            check_places(self)
            check_recipe(self.policy, self.recipe)
            self.log = AuditLog(root / "log.db", signer=self.signer("log"), origin=self.origin)
        except BaseException:
            self._lock.close()
            raise

    # ------------------------------------------------------------------------------------------------ opening, closing

    @classmethod
    def create(
        cls,
        root: Path | str,
        *,
        config: Mapping[str, Any],
        recipe: AnyRecipe,
        policy: str = DEFAULT,
        progress: Progress = silent,
    ) -> Workspace:
        """A new workspace: keys, log, and the manifest of its data. Refuses a folder that already holds something."""
        root = Path(root)
        if root.exists() and any(root.iterdir()):
            raise InputError(f"{root} is not empty", expected="a new or empty folder")
        parsed = parse_config(drawn(config))
        raw = open_data(parsed.data.named(root))  # before anything is written: bad data leaves no half workspace
        check_kind(parse_policy(policy), raw, recipe)
        enforcement_of(parsed.data, root, raw)
        check_roster(parsed, root, raw)
        with storage_errors(root, "create workspace in"):
            for folder in ("", "keys", "store", "store/runs", "store/models", "store/banks", "cases"):
                (root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in KEYS:
            FileSigner.create(root / "keys" / f"{name}.pem")
        for name in ("data", "workspace"):
            KeyFile.create(root / "keys" / f"{name}.key")
        write_file(root / "recipe.yaml", yaml.safe_dump(json.loads(recipe.model_dump_json()), sort_keys=False).encode())
        write_file(root / "policy.yaml", policy.encode())
        write_file(root / "expunge.toml", config_text(parsed).encode())
        workspace = cls(root, progress=progress)
        workspace._ingest()
        return workspace

    @classmethod
    def open(cls, root: Path | str, *, progress: Progress = silent) -> Workspace:
        """An existing workspace."""
        return cls(Path(root), progress=progress)

    def _ingest(self) -> None:
        """Give every record its slot and leaf, and log the roots before anything is trained."""
        raw = open_data(self.named_data)
        if hasattr(raw, "items"):
            write_file(self.root / VOCABULARY, canonical(list(raw.items)), mode=0o600)
        book = SlotBook.ingest(raw.train, self.key("data"))
        write_roots(self.root / "roots.json", self.roots())
        self.log.append(
            "workspace.created",
            {
                "policy": policy_digest(self.policy),
                "recipe": self.recipe.digest,
                "origin": self.origin,
                **coins_commitment(self),
            },
        )
        log_roster(self, raw)
        book = heed(self, raw, book)
        book.save(self.slots_file)
        self.log.append("data.ingested", {"data": encode(book.data_ref(raw.source))})
        self.log.checkpoint()

    def close(self) -> None:
        """Release the lock."""
        self.log.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------------ keys

    @property
    def origin(self) -> str:
        """Name of this workspace's log in its checkpoints."""
        return origin_of(self.config)

    def signer(self, role: str) -> Any:
        """Signer of a role; a file key in keys/."""
        return load_signer(f"file:{self.root / 'keys' / f'{role}.pem'}?passphrase_env=EXPUNGE_KEY_PASSPHRASE")

    def key(self, name: str) -> bytes:
        """A 32-byte secret of this workspace: `data` (manifest leaves) or `workspace` (handles and folder names)."""
        return KeyFile(path=self.root / "keys" / f"{name}.key").read()

    def secret(self, label: str) -> bytes:
        """A purpose-bound key."""
        return derive(self.key("workspace"), label)

    def roots(self) -> TrustRoots:
        """This workspace's public keys, for relying parties."""
        owner = self.config.owner.name
        return TrustRoots(
            keys=tuple(Root.of(self.signer(role), name=f"{owner} ({role})", role=role) for role in KEYS)  # type: ignore[arg-type]
        )

    # ------------------------------------------------------------------------------------------------------ data, model

    @property
    def named_data(self) -> dict[str, Any]:
        """Source and options, as the farm's workers open it."""
        return self.config.data.named(self.root)

    @property
    def slots_file(self) -> Path:
        """The private slot book."""
        return self.root / "store" / "slots.json"

    @cached_property
    def book(self) -> SlotBook:
        """Slots, ids and leaves of every record ever ingested."""
        return SlotBook.load(self.slots_file, self.key("data"))

    @cached_property
    def data(self) -> Any:
        """The data set in slot order; tombstoned rows are blank whatever the source still holds."""
        return self.book.align(open_data(self.named_data, self.vocabulary))

    @cached_property
    def vocabulary(self) -> tuple[str, ...] | None:
        """Items of a recommender by column, frozen at ingestion: who leaves the source moves nobody's columns."""
        file = self.root / VOCABULARY
        return tuple(loads(file.read_bytes(), what=VOCABULARY)) if file.exists() else None

    @cached_property
    def recipe(self) -> AnyRecipe:
        """The recipe of the served model."""
        text = (self.root / self.config.model.recipe).read_text(encoding="utf-8")
        return parse_any_recipe(strict_yaml(text, what="recipe.yaml"), what="recipe.yaml")

    @cached_property
    def adapter(self) -> Any:
        """The model family's adapter."""
        return adapter_for(self.recipe.model_dump(), self.data)

    @cached_property
    def roster(self) -> Roster | None:
        """Who can be asked for, of a text-to-image model; see workflow.styles.roster."""
        from expunge.workflow.styles.roster import roster_of

        return roster_of(self)

    @cached_property
    def judges(self) -> tuple[Judge, ...]:
        """Who looks at pictures; see workflow.styles.judges."""
        from expunge.workflow.styles.judges import judges_for

        return judges_for(self.config, self.root, self.roster)

    @property
    def numerics(self) -> Numerics:
        """What this machine computes with."""
        return numerics_of(self.recipe)

    @property
    def compute(self) -> Compute:
        """Placement only."""
        return self.config.compute.placement

    def reread(self) -> None:
        """Forget what was cached about data and slots; the slot book on disk changed."""
        for name in ("book", "data", "adapter"):
            self.__dict__.pop(name, None)

    def state(self) -> State:
        """What the log says: the model in service, banks, cases."""
        return State.fold(self.log.entries())

    def remembered(self, question: Any, ask: Callable[[], Any]) -> Any:
        """The answer to a question about fixed models. Here it is always asked: scores are kept nowhere."""
        return ask()

    def vouched(self) -> Vouched:
        """The self-test behind the next certificate; raises Held when none vouches for it. See workflow.selftest.gate."""
        from expunge.workflow.selftest.gate import vouch

        return vouch(self)

    def canary_power(self) -> float | None:
        """Power at which this workspace's planted canaries were found, by its newest self-test."""
        from expunge.workflow.selftest.gate import latest

        found = latest(self)
        return None if found is None else found.report.canary_power

    def counts_beside(self, folder: Path) -> Path:
        """Where the counts of a battery on the candidate in `folder` are kept until it is judged."""
        return folder / "battery"

    def narrowed(self, bank: Bank) -> Bank:
        """The part of the bank that judges: here all of it."""
        return bank

    def fit_job(self, folder: Path, *, absent: frozenset[int], seed: str | None = None) -> FitJob:
        """The training of the served model with these tombstones."""
        return FitJob(
            recipe=self.recipe.model_dump(),
            seed=seed or self.config.model.seed,
            numerics=self.numerics,
            data=self.data,
            folder=folder,
            absent=absent,
            leaves=self.book.leaves(),
            progress=self.progress,
        )

    # ---------------------------------------------------------------------------------------------------- model records

    def remember_model(self, record: ModelRecord) -> None:
        """Keep, privately, how a model was made; the log holds its digest only."""
        file = self.root / "store" / "models" / f"{record.digest.removeprefix('sha256:')}.json"
        write_file(file, canonical(encode(record)), mode=0o600)

    def model_record(self, digest: str) -> ModelRecord:
        """How the model with this weights digest was made."""
        file = self.root / "store" / "models" / f"{digest.removeprefix('sha256:')}.json"
        if not file.exists():
            raise InputError("no such model in this workspace", got=digest, hint="expunge train, or expunge adopt")
        return decode(ModelRecord, loads(file.read_bytes()), what=file.name)

    def served(self) -> ModelRecord:
        """The model in service."""
        from expunge.workflow.train import seed_digest

        state = self.state()
        if state.model is None:
            raise InputError("this workspace has no model yet", hint="expunge train, or expunge adopt FILE")
        record = self.model_record(state.model)
        if record.recipe != self.recipe.digest:
            raise InputError(
                "recipe.yaml is not the recipe the served model was trained with",
                expected=record.recipe,
                got=self.recipe.digest,
                hint="restore recipe.yaml: EXACT means the same recipe without the record",
            )
        if state.seed is not None and seed_digest(record.seed) != state.seed:
            raise IntegrityError("the served model's seed is not the one that was logged", expected=state.seed)
        return record

    def model_ref(self, record: ModelRecord) -> ModelRef:
        """A reference by content."""
        return ModelRef(family=self.recipe.family, digest=record.digest, uri=f"store:{record.digest}")

    # ------------------------------------------------------------------------------------------------------------ verbs

    def train(self) -> Any:
        """Train the model to be served (resumes an interrupted training); see workflow.train."""
        from expunge.workflow.train import train

        return train(self)

    def bank(self, monitored: Sequence[str] = ()) -> Any:
        """Build the reference bank and anchors (resumes); see workflow.train."""
        from expunge.workflow.train import build_bank

        return build_bank(self, monitored)

    def selftest(self, size: str = "full") -> Any:
        """Try every known cheat on this workspace; see workflow.selftest.conduct."""
        from expunge.workflow.selftest.conduct import SIZES, selftest

        if size not in SIZES:
            raise InputError("unknown size of self-test", expected=", ".join(SIZES), got=size)
        return selftest(self, SIZES[size])

    def request(
        self,
        *,
        ids: Sequence[str] = (),
        block: str | Sequence[str] | None = None,
        style: str | None = None,
        events: EventSelector | None = None,
        subject: str = "",
        basis: str = "",
    ) -> Any:
        """Log a deletion request and give the requester a receipt; see workflow.intake.

        Of a recommender also for `events`: EventSelector(users=["user/7"], items=["movie/31"]), or users with since and
        until, or items alone. The users then remain. Of a text-to-image model also for a `style`, not to be drawn: one that
        was not learned is answered with a statement of that, and nothing is changed. Several blocks go together: several artists
        are one solve, and each is judged by a battery of their own.
        """
        from expunge.workflow.intake import receive

        return receive(self, ids=ids, block=block, style=style, events=events, subject=subject, basis=basis)

    def plan(self, case: Any, methods: Sequence[str] = ()) -> Any:
        """Candidates for a case with what each would cost; nothing is logged or run; see workflow.planner."""
        from expunge.workflow.pipeline import preview

        return preview(self, case, methods)

    def run(self, case: Any, methods: Sequence[str] = ()) -> Any:
        """Carry a case through to a certificate or an incident; see workflow.pipeline."""
        from expunge.workflow.pipeline import handle

        return handle(self, case, methods)


@contextmanager
def opened(root: Path | str, progress: Progress = silent) -> Iterator[Workspace]:
    """A workspace for the length of a verb."""
    workspace = Workspace.open(root, progress=progress)
    try:
        yield workspace
    finally:
        workspace.close()


def _take_lock(root: Path) -> Any:
    try:
        file = os.fdopen(os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as error:
        raise StorageError(f"cannot open workspace {root}", got=str(error), hint="is it read-only?") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise WorkspaceBusy(f"another process is using {root}", hint="wait until it is done") from error
    return file
