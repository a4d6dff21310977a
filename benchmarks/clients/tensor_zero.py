"""TensorZero: the gateway in the process (Rust), with one model on the loopback provider."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import _worker

os.environ["TENSORZERO_BENCH_KEY"] = _worker.KEY
CONFIG = """
[gateway]
disable_pseudonymous_usage_analytics = true
observability.enabled = false

[models.bench]
routing = ["loopback"]

[models.bench.providers.loopback]
type = "openai"
model_name = "{model}"
api_base = "{base_url}"
api_key_location = "env::TENSORZERO_BENCH_KEY"
"""


class TensorZero:
    """One embedded gateway; observability and analytics are off."""

    def __init__(self, gateway: Any) -> None:
        self.infer = gateway.inference

    async def call(self, prompt: str) -> tuple[str, int]:
        answer = await self.infer(model_name="bench", input=_input(prompt))
        return answer.content[0].text, answer.usage.output_tokens

    async def stream(self, prompt: str) -> int:
        pieces = 0
        async for chunk in await self.infer(model_name="bench", input=_input(prompt), stream=True):
            if chunk.content and chunk.content[0].text:
                pieces += 1
        return pieces


def _input(prompt: str) -> dict[str, Any]:
    return {"system": _worker.SYSTEM, "messages": [{"role": "user", "content": prompt}]}


async def _make(base_url: str) -> TensorZero:
    from tensorzero import AsyncTensorZeroGateway

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tensorzero.toml")
        path.write_text(CONFIG.format(model=_worker.MODEL, base_url=base_url))
        building: Any = AsyncTensorZeroGateway.build_embedded(config_file=str(path))
        return TensorZero(await building)


if __name__ == "__main__":
    _worker.main(_make)
