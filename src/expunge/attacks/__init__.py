"""Floor 6: one file is one attack: scores, nothing else."""
