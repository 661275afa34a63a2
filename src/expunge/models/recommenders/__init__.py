"""Recommender families, one file each: they train on histories of users, not on images."""
