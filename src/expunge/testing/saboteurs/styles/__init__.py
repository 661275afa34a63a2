"""Cheats of owners who were asked to erase an artist's style, one file each."""
