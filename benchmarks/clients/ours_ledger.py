"""LLM Master with every call written down and priced."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import _worker
from ours import Ours


class Kept(Ours):
    """One ``QueryLLM`` with a ledger, in a folder of its own."""

    def __init__(self, base_url: str, mode: Literal["relaxed", "strict"] = "relaxed") -> None:
        from llm_master import Ledger

        folder = Path(tempfile.mkdtemp(prefix="llm-master-bench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        super().__init__(base_url, ledger=Ledger(folder / "usage.sqlite3", mode=mode))


async def _make(base_url: str) -> Kept:
    return Kept(base_url)


if __name__ == "__main__":
    _worker.main(_make)
