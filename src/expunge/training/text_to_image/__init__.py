"""Text-to-image diffusion on the one training loop: captions, noise, reading, and what such a family shares."""
