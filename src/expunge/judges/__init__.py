"""Judges of style and object in pictures, one file each. A verdict takes two families of them."""
