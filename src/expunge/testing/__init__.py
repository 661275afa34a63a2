"""Public conformance suites for plug-ins."""
