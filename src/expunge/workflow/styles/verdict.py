"""The verdict on a style, by its former name; see stats.styles."""

from expunge.stats.styles import *  # noqa: F403
