"""Readers of other tools' score arrays: one file is one tool. A reader takes files nobody vouches for and runs nothing.

What every reader returns, and the protocol it meets, are here for outside packages too (entry points `expunge.scores`).
"""

from expunge.connect.scores._arms import ScoreArms, read_arms
from expunge.connect.scores._nouns import Given, ModelSignals, PooledScores, ScoreReader

__all__ = ["Given", "ModelSignals", "PooledScores", "ScoreArms", "ScoreReader", "read_arms"]
