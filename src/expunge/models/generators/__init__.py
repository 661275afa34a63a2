"""Text-to-image families, one file each: they train on captioned pictures."""
