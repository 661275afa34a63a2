"""The `expunge` command: verbs are the files of this folder, found by name and loaded when they are called."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from expunge.core.errors import ExitCode, ExpungeError

ORDER = (
    "init",
    "adopt",
    "train",
    "bank",
    "selftest",
    "request",
    "plan",
    "run",
    "verify",
    "recheck",
    "verify-scores",
    "recompute",
    "report",
    "log",
    "rights",
    "compartment",
    "refresh",
    "release",
    "demo",
    "bench",
)


class _Verbs(TyperGroup):
    """Lists the verb files without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Verbs in the order of a case, then anything else by name."""
        found = [info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)])]
        verbs = [name.replace("_", "-") for name in found if name != "main" and not name.startswith("_")]
        return sorted(verbs, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's function as a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"expunge.apps.cli.{cmd_name.replace('-', '_')}")
        if hasattr(module, "app"):
            group = typer.main.get_command(module.app)
            group.name = cmd_name
            return group
        verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
        verb.command(name=cmd_name)(module.command)
        return typer.main.get_command(verb)


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Erase data from trained models, and prove what was and was not achieved.",
    epilog="Exit codes: 0 done, 1 our bug, 2 usage or bad input, 3 not erased, 4 held or refused, 5 evidence failed.",
)


@app.callback()
def _root() -> None:
    """Erase data from trained models, and prove what was and was not achieved."""


def run() -> None:
    """Entry point: every error becomes its exit code, with what was expected, what came and what to do."""
    as_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except ExpungeError as error:
        _show(error, as_json)
        sys.exit(int(error.exit_code))
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted; run the same command again to continue\n")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last resort: anything else here is our bug, and says so
        if hasattr(error, "show") and hasattr(error, "format_message"):  # typer's usage errors share no public type
            error.show()
            sys.exit(int(ExitCode.BAD_INPUT))
        traceback.print_exc()
        sys.stderr.write("this is a bug in expunge; nothing was released\n")
        sys.exit(int(ExitCode.BUG))
    sys.exit(code if isinstance(code, int) else 0)


def _show(error: ExpungeError, as_json: bool) -> None:
    if as_json:
        sys.stderr.write(json.dumps(error.to_dict()) + "\n")
        return
    for line in error.lines():
        sys.stderr.write(line + "\n")


if __name__ == "__main__":
    run()
