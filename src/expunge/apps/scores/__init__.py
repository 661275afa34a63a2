"""Verdicts on runs of other tools, from the arrays they leave behind."""
