"""The suite of the kinds catches kinds that see nothing, take too much, or write where they must not."""

from __future__ import annotations

import pytest

from expunge.connect.places.events import Events
from expunge.core.errors import DataError
from expunge.testing import examine_place


class Blind(Events):
    """Finds nobody, ever."""

    def count(self, path, traces):
        super().count(path, traces)
        return 0


class Idle(Events):
    """Says that it scrubbed."""

    def scrub(self, path, out, traces):
        out.write_bytes(path.read_bytes())
        return self.count(path, traces)


class Tidy(Events):
    """Writes line ends of its own."""

    def scrub(self, path, out, traces):
        gone = super().scrub(path, out, traces)
        out.write_bytes(out.read_bytes().replace(b"\r\n", b"\n"))
        return gone


class InPlace(Events):
    """Scrubs the artefact itself."""

    def count(self, path, traces):
        found = super().count(path, traces)
        path.write_bytes(path.read_bytes() + b"\n")
        return found


class Tolerant(Events):
    """Calls clean what it cannot read."""

    def count(self, path, traces):
        try:
            return super().count(path, traces)
        except DataError:
            return 0


class Pretender(Events):
    """Says that it cannot scrub, and does."""

    scrubs = False


@pytest.mark.parametrize(
    ("plugin", "law"),
    [
        (Blind, "planted_users_are_found"),
        (Idle, "scrubbed_users_are_gone"),
        (Tidy, "scrubbing_nobody_keeps_the_others"),
        (InPlace, "the_artefact_is_not_touched"),
        (Tolerant, "garbage_is_refused"),
        (Tolerant, "looking_for_nobody_is_refused"),
        (Pretender, "scrubbed_users_are_gone"),
    ],
)
def test_a_kind_that_breaks_a_law_is_caught(plugin, law):
    assert law in [broken.law for broken in examine_place(plugin, name="broken")]


def test_a_settings_class_that_can_be_changed_is_caught():
    class Config:
        column, position, delimiter, item, item_position = "", 0, "", "", 0

    plugin = type("Loose", (Events,), {"Config": Config, "__doc__": "Loose."})
    assert [broken.law for broken in examine_place(plugin, name="loose")] == ["is_a_kind_with_settings"]
