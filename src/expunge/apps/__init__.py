"""Floor 9: command line, reports."""
