"""Standing and walking on sensed inputs only: numpy, no simulator, no torch; batched, so that training runs it too."""
