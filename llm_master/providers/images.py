"""
A model behind ``/images/generations``: as any target, but for the path and the form of requests with pictures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from llm_master.errors import ConfigurationError
from llm_master.families import FAMILIES
from llm_master.redaction import redact
from llm_master.target import Target
from llm_master.wire import openai_images

if TYPE_CHECKING:
    import aiohttp

    from llm_master.classes import LLMResponse, Request
    from llm_master.endpoint import Endpoint
    from llm_master.incoming import OpenStream

__all__ = ["ImagesTarget"]


class ImagesTarget(Target):
    """A model that draws in one request; see ``Target``."""

    __slots__ = ()

    async def send(self, request: Request, timeout: aiohttp.ClientTimeout) -> LLMResponse:
        """One request, one whole answer; raises as ``Target.send``."""
        body = openai_images.encode(request, self.dialect)
        endpoint = self._there(await self.endpoint(request.headers, timeout.total), body)
        request.bytes_sent = len(body)
        answer = await self.transport.post(endpoint, body, timeout)
        request.bytes_received = len(answer.body)
        self._refuse(answer.status, answer.body, answer.headers, endpoint)
        return self.decode(answer.body, request, answer.headers)

    async def open(self, request: Request, timeout: aiohttp.ClientTimeout) -> tuple[OpenStream, Any]:
        """One streamed request: sketches, then the image."""
        body = openai_images.encode(request, self.dialect)
        endpoint = self._there(await self.endpoint(request.headers, timeout.total), body)
        fold = openai_images.Fold(request, self.dialect, rules=self.row.error_codes)
        return await self.opened(endpoint, body, timeout, request), fold

    def encode(self, request: Request) -> bytes:
        """The body that would be sent; of a form, its fields as JSON."""
        return openai_images.readable(openai_images.encode(request, self.dialect))

    def there(self, request: Request) -> tuple[str, str]:
        """The full address of a request, and the content type of its body."""
        assert self._endpoint is not None  # noqa: S101  # set by __init__: no such row has a supervisor
        body = openai_images.encode(request, self.dialect)
        kind = openai_images.where(body, self.dialect, self.model)[1]
        return str(self._there(self._endpoint, body).url), kind.partition(";")[0]

    def _there(self, endpoint: Endpoint, body: bytes) -> Endpoint:
        path, kind = openai_images.where(body, self.dialect, self.model)
        usual = self.row.paths.get(self.family, openai_images.PATH)
        # An older address of Azure has its version in the query.
        url, mark, query = str(endpoint.url).partition("?")
        # A full address that the user set may be that of the chat, beside which the images are.
        chat = getattr(importlib.import_module(FAMILIES[self.row.families[0]][0]), "PATH", None)
        ends = (usual, self.dialect.for_model(self.model).edit_path, chat)
        base = next((url.removesuffix(end) for end in ends if isinstance(end, str) and url.endswith(end)), None)
        if base is None:
            if path == openai_images.PATH:
                return endpoint
            raise ConfigurationError(
                f"{self.provider} has {redact(url)} as its full address, and {self.asked!r} with images goes to {path}:"
                " give a base URL instead"
            )
        route = usual if path == openai_images.PATH else path
        there = endpoint.at(base + route + mark + query)
        return there if path == openai_images.PATH else there.with_headers({"Content-Type": kind})

    def complete(self, response: Any, headers: Any) -> None:
        """As of any target; an image on the provider's own host is trusted."""
        super().complete(response, headers)
        settle(self, response)


def settle(target: Target, response: Any) -> None:
    """What every target that draws does with an answer: trust in its own address."""
    own = (target.url or "").split("/", 3)[:3]
    for image in response.images:
        image.trusted = image.url is not None and image.url.split("/", 3)[:3] == own
