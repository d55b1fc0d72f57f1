"""Shared helpers of the notebooks: one module, one idea; a module imports only from floors below it."""

import os

# OpenMP threads that spin while they wait make scikit-learn many times slower on a busy machine.
# The variable is read once, when the first OpenMP library loads, so it is set before anything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
