"""Floor 3: the only training loop, keyed randomness, transcript, checkpoints."""
