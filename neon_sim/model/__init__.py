"""The trainable action layer and what feeds it: layers, sensor encoders, action heads. Torch, and no simulator."""
