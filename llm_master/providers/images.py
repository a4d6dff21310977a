"""
A model behind ``/images/generations``: as any target, but for the path and the form of requests with pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.errors import ConfigurationError
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
        answer = await self.transport.post(endpoint, body, timeout)
        self._refuse(answer.status, answer.body, answer.headers, endpoint)
        return self.decode(answer.body, request, answer.headers)

    async def open(self, request: Request, timeout: aiohttp.ClientTimeout) -> tuple[OpenStream, Any]:
        """One streamed request: sketches, then the image."""
        body = openai_images.encode(request, self.dialect)
        endpoint = self._there(await self.endpoint(request.headers, timeout.total), body)
        stream = await self.transport.open(endpoint, body, timeout)
        try:
            if stream.status != 200:
                self._refuse(stream.status, await stream.rest(), stream.headers, endpoint)
            return stream, openai_images.Fold(request, self.dialect, rules=self.row.error_codes)
        except BaseException:
            stream.close()
            raise

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
        if path == openai_images.PATH:
            return endpoint
        url = str(endpoint.url)
        usual = self.row.paths.get(self.family, openai_images.PATH)
        if not url.endswith(usual):
            raise ConfigurationError(
                f"{self.provider} has {redact(url)} as its full address, and {self.asked!r} with images goes to {path}:"
                " give a base URL instead"
            )
        return endpoint.at(url.removesuffix(usual) + path).with_headers({"Content-Type": kind})

    def complete(self, response: Any, headers: Any) -> None:
        """As of any target; an answer that counts no tokens has no price by them."""
        super().complete(response, headers)
        settle(self, response)


def settle(target: Target, response: Any) -> None:
    """What every target that draws does with an answer: no price of no tokens, and trust in its own address."""
    if not response.usage.total_tokens:
        response.pricer = None
    own = (target.url or "").split("/", 3)[:3]
    for image in response.images:
        image.trusted = image.url is not None and image.url.split("/", 3)[:3] == own
