"""Floor 0: the nouns, protocols, registry, errors and codec. Standard library only."""
