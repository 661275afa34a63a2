"""Requests of rights holders about text-to-image models: what is decided, by which measurement, by when, and in which words."""
