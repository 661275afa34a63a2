"""Views of a case; they read, they never decide."""
