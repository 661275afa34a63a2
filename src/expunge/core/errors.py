"""One tree of errors. Each says what was expected, what came and what to do next, and carries its exit code.

A failed check is a Finding, not an error; a broken check is an error; a missing check is a refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns; scripts rely on these numbers."""

    DONE = 0
    BUG = 1
    BAD_INPUT = 2
    NOT_ERASED = 3
    HELD = 4
    EVIDENCE = 5


class ExpungeError(Exception):
    """Root of every error expunge raises on purpose."""

    exit_code: ExitCode = ExitCode.BUG
    code: str = "internal"

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = got
        self.hint = hint
        if code is not None:
            self.code = code

    def lines(self) -> list[str]:
        """The message as a terminal shows it: what happened, expected, got, what to do."""
        rows = [f"{self.code}: {self.message}"]
        if self.expected is not None:
            rows.append(f"  expected: {self.expected}")
        if self.got is not None:
            rows.append(f"  got:      {self.got}")
        if self.hint is not None:
            rows.append(f"  do:       {self.hint}")
        return rows

    def to_dict(self) -> dict[str, str | int | None]:
        """The same for `--json`."""
        return {
            "error": self.code,
            "message": self.message,
            "expected": self.expected,
            "got": self.got,
            "hint": self.hint,
            "exit_code": int(self.exit_code),
        }


class InputError(ExpungeError):
    """The caller's input is wrong; nothing was changed."""

    exit_code = ExitCode.BAD_INPUT
    code = "bad-input"


class InputProblems(InputError):
    """All problems of one input at once."""

    code = "bad-input"

    def __init__(self, what: str, problems: Sequence[str], *, hint: str | None = None, code: str | None = None) -> None:
        self.problems = tuple(problems)
        shown = "; ".join(self.problems[:20])
        more = "" if len(self.problems) <= 20 else f" (+{len(self.problems) - 20} more)"
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__(f"{what}: {len(self.problems)} {noun}: {shown}{more}", hint=hint, code=code)


class DataError(InputError):
    """A record source cannot be read as what it claims to be."""

    code = "bad-data"


class StorageError(InputError):
    """The disk refused: full, read-only, missing or not permitted. Nothing acknowledged was lost."""

    code = "storage"


class WorkspaceBusy(InputError):
    """Another process holds this workspace."""

    code = "workspace-busy"


class MissingExtra(InputError):
    """A feature needs an optional dependency."""

    code = "missing-extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the optional dependencies [{extra}]",
            hint=f"pip install 'expunge[{extra}]' -c constraints.txt",
        )


class RegistryError(InputError):
    """A plug-in is unknown, malformed, or takes a name that is already taken."""

    code = "plugin"


class NotErased(ExpungeError):
    """No candidate passed. Nothing was released; an incident is open on the original model.

    `trials` are the candidates that were tried, with their findings, for whoever has to look at them.
    """

    trials: tuple[object, ...] = ()
    exit_code = ExitCode.NOT_ERASED
    code = "not-erased"


class Held(ExpungeError):
    """The request is held, awaits approval, or was refused by policy."""

    exit_code = ExitCode.HELD
    code = "held"


class EvidenceError(ExpungeError):
    """A signature, hash, log or certificate did not verify."""

    exit_code = ExitCode.EVIDENCE
    code = "evidence"


class IntegrityError(EvidenceError):
    """Bytes on disk are not the bytes that were recorded."""

    code = "integrity"


class ErasedRecord(EvidenceError):
    """A cached model or result saw a record that has been erased; it is not used again."""

    code = "erased-record"


class LeaseLost(ExpungeError):
    """Another worker took over the task this one was working on."""

    code = "lease-lost"


class OutOfOrder(ExpungeError):
    """A log entry or call came at a step of the case where it cannot come. A bug in the caller."""

    code = "out-of-order"


class CheckBroken(ExpungeError):
    """A check could not compute its statistic. Not a failed check: that is a Finding."""

    code = "check-broken"
