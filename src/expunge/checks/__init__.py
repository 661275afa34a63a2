"""Floor 7: one file is one question: run(job) -> Finding."""
