"""A process that ends with the one that started it, however that ends."""

import os
import threading
import time

CHILD = "SIMVQ_CHILD"
"""Set in the environment of processes that `compare` starts."""


def exit_with_parent() -> None:
    """From now on this process ends within a second of its parent: `kill -9` of the parent leaves no orphan at work."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
