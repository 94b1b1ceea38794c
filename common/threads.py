"""How OpenMP's threads wait for each other; imported before torch, whose OpenMP reads the environment once.

A thread that waits spins, for 300,000 rounds by default: on a machine that other work shares it takes the core
from the thread it waits for. `python -m benchmarks.shared_machine` has what each setting costs.
"""

import os

SPINS = "10000"
"""Rounds that a waiting thread spins before it sleeps."""

if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = SPINS
