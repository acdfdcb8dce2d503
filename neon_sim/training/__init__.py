"""Training: presets, the supervised loop, label-free self-learning, and what keeps old skills (EWC)."""
