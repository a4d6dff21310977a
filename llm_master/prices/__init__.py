"""
What things cost: where prices are read from, the rules that choose among them, and the arithmetic.
"""

from __future__ import annotations

import os
import threading

__all__ = ["LOADING"]

#: Held while price data, or a module that reads it, is loaded. A fork waits for it: in the child the thread that loads
#: does not exist, and what it had half imported would be locked for ever.
LOADING = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=LOADING.release)
