"""One file a kind of artefact in which a user of a recommender may sit (see core.places)."""
