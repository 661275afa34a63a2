"""Editing what a text-conditioned model makes of a concept, on its cross-attention weights alone."""
