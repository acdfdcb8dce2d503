"""The world in which the walker is trained: hundreds of G1s at once, randomised, commanded, pushed and punched."""
