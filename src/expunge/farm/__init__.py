"""Floor 5: content-addressed tasks, executors, the reference bank."""
