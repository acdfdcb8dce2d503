"""The senses: one frozen config and one sensor each, all behind the protocol in `sensor.py`."""
