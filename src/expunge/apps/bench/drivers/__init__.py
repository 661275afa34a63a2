"""Drivers are not imported here: their text is piped, after `loop.py`, to a peer's own Python (`expunge bench auditors`).

A driver defines `methods(source)`, name -> function(scores, coins, seed) -> whether it claims membership at nominal 5 %,
and `version(source)`. It imports the peer and numpy only.
"""
