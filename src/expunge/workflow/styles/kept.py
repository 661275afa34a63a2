"""A battery as it was asked, kept so that it can be asked again from its seeds: plan, models by digest, counts. No names.

A style stands under its keyed handle, and is found again among those that can be asked for. The seed is in here, and with
it and the digest in a certificate whoever knows all artists could tell which was meant: so it is the owner's, like the
recompute package, and not for publication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.durable import storage_errors, write_file
from expunge.stats.styles import Arms, Counted
from expunge.workflow.styles.battery import BatteryPlan
from expunge.workflow.styles.material import style_handle, who_is

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

FILE = "battery.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBattery:
    """`plan` with a handle for the target; `digest` as the evidence names it; models: arm -> digest of the weights; given: need
    of a probe -> digest of what it got (`Subjects.given`); `known`: the handle of a trained artist under the same probes, with
    its counts, where one was asked for (a baseline)."""

    plan: BatteryPlan
    digest: str
    models: Mapping[str, str]
    arms: Mapping[str, Arms]
    mistakes: float
    given: Mapping[str, str]
    known: str = ""
    known_counts: Mapping[str, Counted] = field(default_factory=dict)

    def named(self, workspace: Workspace) -> BatteryPlan:
        """The plan with the style's own name. Raises InputError where nobody can be asked for under this handle."""
        return replace(self.plan, target=self.style(workspace))

    def style(self, workspace: Workspace) -> str:
        """The style that was asked for."""
        found = who_is(workspace, self.plan.target)
        if found is None:
            raise InputError("whom the battery asked for is not among the styles that can be asked for", got=FILE)
        return found


def keep(workspace: Workspace, file: Path, battery: KeptBattery) -> None:
    """Write it, 0600, with the handle in the name's stead."""
    style = battery.plan.target
    hidden = replace(battery, plan=replace(battery.plan, target=style_handle(workspace, style)))
    write_file(file, canonical(encode(hidden)), mode=0o600)


def file_of(number: int) -> str:
    """Of the first artist who went, or of a further one."""
    return FILE if number == 0 else f"battery-{number + 1}.json"


def keep_battery(run: Path, folder: Path) -> None:
    """Beside a certificate, what its styles were asked with: the candidate's folder goes with the next deletion."""
    for kept in sorted(run.glob("battery*.json")):
        write_file(folder / kept.name, kept.read_bytes(), mode=0o600)


def read_kept(file: Path) -> KeptBattery | None:
    """What was kept, or None where no battery was asked. Raises IntegrityError on a file that is none."""
    if not file.exists():
        return None
    with storage_errors(file, "read battery"):
        raw = file.read_bytes()
    try:
        return decode(KeptBattery, loads(raw, what=FILE), what=FILE)
    except InputError as error:
        raise IntegrityError(f"{file} is not a kept battery", got=error.message[:200]) from error
