"""Floor 2: one file is one outside system."""
