"""Who looks: the judges that expunge.toml names, or those of the roster. Two families of them, or nobody says anything.

A judge that takes `references` is given works of every style that can be asked for and of nobody's, apart from those that
attacks are given and from those on which it has to show that it sees; one that takes `objects`, what each of them shows.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.training.judging.judge import NEEDED, Judge, JudgeMissing

if TYPE_CHECKING:
    from expunge.workflow.config import Config
    from expunge.workflow.styles.roster import Roster

SHIPPED = ("adain", "cnn")
"""Who looks where nobody has said who can be asked for: then nothing is asked, and a plan names them all the same."""
KIND = "judges"


def judges_for(config: Config, root: Path, roster: Roster | None) -> tuple[Judge, ...]:
    """All of them. Raises InputError on an unknown judge or option, JudgeMissing on fewer than two families and where one has no
    name for a style that can be asked for."""
    default = SHIPPED if roster is None else roster.judges
    named = {table.name: table.options for table in config.judges} or {name: {} for name in default}
    found = tuple(_made(name, options, root, roster) for name, options in named.items())
    check_families(found)
    if roster is not None:
        _check_styles(found, roster)
    return found


def check_families(judges: Sequence[Judge]) -> None:
    """Two judges of one family count once. Raises JudgeMissing."""
    families = sorted({judge.family for judge in judges})
    if len(families) < NEEDED:
        raise JudgeMissing(
            "too few families of judges: two of one family may err together",
            expected=str(NEEDED),
            got=", ".join(families) or "none",
            hint="name a judge of another family under [[judges]] in expunge.toml",
        )


def _made(name: str, options: Mapping[str, Any], root: Path, roster: Roster | None) -> Judge:
    plugin = registry.load(KIND, name)
    takes = inspect.signature(plugin).parameters
    unknown = sorted({*options} - ({*takes} - {"references", "objects"}))
    if unknown:
        raise InputError(f"judge {name} has no such option", expected=", ".join(takes), got=", ".join(unknown))
    settings = {key: root / str(value) if key == "weights" else value for key, value in options.items()}
    if "references" in takes and roster is not None:
        works = roster.references()
        settings["references"] = {style: found.images for style, found in works.items()}
        if "objects" in takes:
            settings["objects"] = {style: found.objects for style, found in works.items()}
    found: Judge = plugin(**settings)
    return found


def _check_styles(judges: Sequence[Judge], roster: Roster) -> None:
    for judge in judges:
        unknown = sorted({*roster.styles, *roster.controls} - {*judge.styles})
        if unknown:
            raise JudgeMissing(
                f"judge {judge.name} has no name for {len(unknown)} of the styles that can be asked for",
                hint="name a judge under [[judges]] that is made of the declared works",
            )
