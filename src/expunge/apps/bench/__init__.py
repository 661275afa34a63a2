"""Benchmarks that users run themselves: each re-measures a claim and says with what."""
