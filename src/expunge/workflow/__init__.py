"""Floor 8: resolve, planner, policy, execute, verify, certify, pipeline."""
