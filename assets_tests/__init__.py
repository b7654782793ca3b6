"""Tests; on import, before torch's, each process that runs them is limited to one thread.

The workers of pytest-xdist and the processes that tests start share the cores, and small networks are faster so. A
repetition is the same bit for bit on any machine.
"""

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
