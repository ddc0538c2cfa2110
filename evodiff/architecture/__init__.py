"""Search space 1: diffusion architectures."""
