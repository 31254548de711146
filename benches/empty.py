"""The empty program: what running it takes is what starting takes."""
