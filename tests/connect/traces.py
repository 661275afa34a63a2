"""Users to look for, and kinds by name."""

from __future__ import annotations

import numpy as np

from expunge.core import registry
from expunge.core.places import Traces

MODEL = "sha256:" + "5a" * 32
OTHER = "sha256:" + "c3" * 32


def traces(*names, slots=None, columns=None, values=None, items=8, model=MODEL, users=0):
    count = len(names)
    columns = [np.array([0, 2 + k % 3], np.int32) for k in range(count)] if columns is None else columns
    return Traces(
        names=names,
        slots=tuple(range(count)) if slots is None else tuple(slots),
        columns=tuple(np.asarray(own, np.int32) for own in columns),
        values=tuple(np.ones(len(own), int) for own in columns) if values is None else tuple(values),
        items=items,
        model=model,
        users=users,
    )


def kind(name, **options):
    plugin = registry.load("places", name)
    return plugin(plugin.Config(**options))
