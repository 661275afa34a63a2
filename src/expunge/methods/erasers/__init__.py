"""Erasers of concepts from text-to-image models, one file each."""
