"""The Unitree G1 over DDS: messages, services, and the robot behind the same six methods as the simulated one.

Needs the `real` extra: pip install "neon-sim[real]".
"""
