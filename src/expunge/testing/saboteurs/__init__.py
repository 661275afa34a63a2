"""One file is one cheat that the verifier must catch: a sabotaged method or a sabotaged process (core/sabotage.py)."""
