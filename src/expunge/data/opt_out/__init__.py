"""Opt-out signals of rights holders: what was said, where and when it was read, and a loader that heeds it."""
