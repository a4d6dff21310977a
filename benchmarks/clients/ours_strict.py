"""LLM Master with every call priced and on the disk before its answer is given."""

from __future__ import annotations

import _worker
from ours_ledger import Kept


async def _make(base_url: str) -> Kept:
    return Kept(base_url, "strict")


if __name__ == "__main__":
    _worker.main(_make)
