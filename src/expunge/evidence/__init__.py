"""Floor 1: manifest, Merkle tree, log, envelope, statement, certificate, verify. No numpy, no torch."""
