"""Floor 2: one file is one kind of record source."""
