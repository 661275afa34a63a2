"""Floor 4: one file is one model family (an adapter)."""
