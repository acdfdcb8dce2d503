"""Why the inference server does not answer now, though nothing is wrong with the question."""


class Busy(RuntimeError):
    """Too much is asked at once; the same question may be put again."""


class OutOfTurn(RuntimeError):
    """Something else has to come first."""
