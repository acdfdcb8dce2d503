"""Settings that must hold before anything heavy is imported."""

import os
import sys

from hypothesis import settings

# One thread per worker: pytest-xdist already fills the cores, and torch's and BLAS's own pools would fight over them.
# They read these once, at import, and a conftest is imported before every test module.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# The same examples in every run, and no per-example deadline: a shared core may be busy.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_runtest_setup() -> None:
    """No test inherits the threads that another one told torch to use: sums over other numbers of threads round
    otherwise, and a process that a test starts would not get the same bits as the test itself."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
