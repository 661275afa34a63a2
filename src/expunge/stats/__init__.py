"""Floor 1: pure numpy and scipy functions, each with a slow, obvious twin in tests/oracle."""
