"""Readers of recommenders trained elsewhere: one file is one foreign artefact. A reader takes files nobody vouches for
and runs nothing: pickles are interpreted by a machine that knows arrays and inert records, and nothing else.
"""

from expunge.connect.recommenders._linear import ForeignFactors, ForeignLinear, ForeignNeighbours, RecommenderReader

__all__ = ["ForeignFactors", "ForeignLinear", "ForeignNeighbours", "RecommenderReader"]
