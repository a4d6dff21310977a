"""The floor: aiohttp and msgspec, by hand, with nothing around them."""

from __future__ import annotations

import _worker
import aiohttp
import msgspec


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    model: str
    choices: list[_Choice]
    usage: _Usage


class _Part(msgspec.Struct):
    delta: _Message
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Part]
    usage: _Usage | None = None


class Bare:
    """One session, one typed decoder for each shape."""

    def __init__(self, base_url: str) -> None:
        self.url = f"{base_url}/chat/completions"
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"Authorization": f"Bearer {_worker.KEY}", "Content-Type": "application/json"},
        )
        self.encode = msgspec.json.Encoder().encode
        self.decode = msgspec.json.Decoder(_Answer).decode
        self.decode_chunk = msgspec.json.Decoder(_Chunk).decode

    async def call(self, prompt: str) -> tuple[str, int]:
        body = {"model": _worker.MODEL, "messages": _worker.messages(prompt)}
        async with self.session.post(self.url, data=self.encode(body)) as response:
            answer = self.decode(await response.read())
        return answer.choices[0].message.content or "", answer.usage.completion_tokens

    async def stream(self, prompt: str) -> int:
        body = {"model": _worker.MODEL, "messages": _worker.messages(prompt), "stream": True}
        pieces = 0
        rest = b""
        async with self.session.post(self.url, data=self.encode(body)) as response:
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: ") and line != b"data: [DONE]":
                        chunk = self.decode_chunk(line[6:])
                        if chunk.choices and chunk.choices[0].delta.content:
                            pieces += 1
        return pieces


async def _make(base_url: str) -> Bare:
    return Bare(base_url)


if __name__ == "__main__":
    _worker.main(_make)
