"""Where tasks run; the outcome does not depend on it."""
