"""Judges of pictures: what they answer, how well they see, what they are made of, and what ships with them."""
