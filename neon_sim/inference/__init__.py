"""Running a policy: the protocol, its memory, its chunks."""
