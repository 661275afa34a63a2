"""Floor 7: one file is one unlearner."""
