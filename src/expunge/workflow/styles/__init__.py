"""Verification of an erased style: the battery, its verdicts, and the ladder of what may be said."""
