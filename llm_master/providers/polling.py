"""
Services that take a job, and say later what became of it: submitted once, asked after until it ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from yarl import URL

from llm_master.addresses import base_url, given_url
from llm_master.bodies import UNREADABLE
from llm_master.classify import error_from_response, excerpt, retry_after_seconds
from llm_master.endpoint import Endpoint
from llm_master.errors import (
    APIConnectionError,
    APITimeoutError,
    ContentPolicyError,
    NotFoundError,
    ProviderError,
    ResponseError,
    ServerError,
)
from llm_master.record import tell_progress
from llm_master.target import Target
from llm_master.wire import polling

if TYPE_CHECKING:
    from llm_master.classes import LLMResponse, Request
    from llm_master.config import LLMConfig
    from llm_master.dialect_images import PollingDialect

__all__ = ["PollingProvider"]

# Seconds for one look at a job, and for the request that cancels it.
_LOOK = 30.0
_CANCEL = 2.0
# What is kept of the time for cancelling, so that this too ends within the deadline.
_KEPT = 0.1
# Statuses of a look that say nothing of the job.
_PASSING = (408, 425, 429)
# How often a result is fetched that answers with a 5xx.
_FETCHES = 3
# Seconds without any answer after which a call without a deadline gives a job up.
_PATIENCE = 600.0


class PollingProvider(Target):
    """
    A model whose answers are jobs.

    The job is submitted like any request: an attempt that fails before the job was taken may be made again. From then
    on no error is retried, because a second job costs a second time; a lost connection, a 429 or a 5xx while asking
    only leads to another look. When the caller cancels, or the time is over, the job is cancelled where the service
    can do that.

    A service says in the ``polling`` field of its row how it speaks; a subclass, which the row names as
    ``implementation``, adds what data cannot say: ``failure`` and ``result_of``.
    """

    __slots__ = ("own",)

    own: PollingDialect

    def _full_url(self, config: LLMConfig) -> str:
        self.own = self.dialect.for_model(self.model)
        given = given_url(self.row, config)
        if given is not None and given[1]:
            return given[0]
        return base_url(self.row, config).rstrip("/") + polling.path_of(self.model, self.dialect)

    # -- the call -----------------------------------------------------------------------------------------------

    async def send(self, request: Request, timeout: aiohttp.ClientTimeout) -> LLMResponse:
        """
        Submit a job and wait for its result.

        Raises:
            ProviderError: the service refused the job, or the job failed.
            ContentPolicyError: prompt or image were refused by policy.
            APITimeoutError: the job was not done in time; it was cancelled if the service can.
        """
        body = polling.encode(request, self.dialect)
        loop = asyncio.get_running_loop()
        until = None if timeout.total is None else loop.time() + timeout.total
        endpoint = await self.endpoint(request.headers, timeout.total)
        request.bytes_sent = len(body)
        answer = await self.transport.post(endpoint, body, timeout)
        request.bytes_received = len(answer.body)
        self._refuse(answer.status, answer.body, answer.headers, endpoint)
        job = polling.job_of(answer.body, request, self.own)
        watch = _Watch(self, endpoint, job, until=until, connect=timeout.sock_connect)
        watch.request = request
        try:
            watch.check_addresses()
            found = await watch.follow()
            response = polling.decode(found, request, self.own, job)
        except ProviderError as error:
            # Never a second job by itself: another target may be tried, this one is not.
            error.retryable = False
            error.request_id = error.request_id or job.id
            raise self.masked(error) from error.__cause__
        self.complete(response, answer.headers)
        response.request_id = job.id
        self._check_delivery(response)
        return response

    async def source(self, request: Request, seconds: float | None) -> Any:  # noqa: ARG002  # as CustomTarget's
        """Refuse a stream, before any request."""
        raise ProviderError(
            f"{self.provider} cannot stream {self.model!r}; call it without stream=True",
            provider=self.provider,
            model=self.model,
        )

    def encode(self, request: Request) -> bytes:
        """The JSON body of the job that would be submitted."""
        return polling.encode(request, self.dialect)

    def _check_delivery(self, response: LLMResponse) -> None:
        origin = self._origin()
        for image in response.images:
            if image.url is None:
                continue
            try:
                place = URL(image.url).origin()
            except ValueError:
                # The job is paid and done: its other images are worth having.
                place = URL()
            image.trusted = place == origin
            host = place.host or "no host that can be read"
            if not image.trusted and self.own.delivery and not _under(host, self.own.delivery):
                note = f"an image lies on {host}, which is not known as a place of {self.provider}'s results"
                if note not in response.notes:
                    response.notes = (*response.notes, note)

    def _origin(self) -> Any:
        assert self._endpoint is not None  # noqa: S101  # set by __init__: no such row has a supervisor
        return self._endpoint.url.origin()

    # -- what a service may know better --------------------------------------------------------------------------

    def failure(self, status: polling.Status, answer: dict[str, Any]) -> ProviderError:  # noqa: ARG002  # for subclasses
        """The typed error of a job that ended without a result."""
        said = excerpt(status.detail, *self.secrets) or "it gave no reason"
        who: dict[str, Any] = {"provider": self.provider, "model": self.model, "code": status.word, "body": said}
        if status.state == "moderated":
            return ContentPolicyError(
                f"{self.provider} refused {self.model!r} ({status.word}): {said};"
                " change the input, or allow fallback_on={'content_policy'}",
                **who,
            )
        if status.state == "missing":
            return NotFoundError(
                f"{self.provider} does not know its own job for {self.model!r} ({status.word}); submit it again", **who
            )
        if status.state == "cancelled":
            return ProviderError(
                f"{self.provider} says that the job for {self.model!r} was cancelled ({status.word}): {said};"
                " submit it again",
                **who,
            )
        return ServerError(
            f"{self.provider} failed at the job for {self.model!r} ({status.word}): {said};"
            " change the request, submit it again, or give a fallback_model=",
            **who,
        )

    def refused(self, status: int, body: bytes, headers: Any, endpoint: Endpoint) -> ProviderError:
        """The typed error of an HTTP status other than 200, of a look or of fetching the result."""
        return error_from_response(
            status,
            body,
            provider=self.provider,
            model=self.model,
            headers=headers,
            rules=self.row.error_codes,
            secrets=endpoint.secrets,
        )


class _Watch:
    """
    One job from its submission to its end.

    Args:
        until: loop time at which the call's time is over, None for no deadline.
        connect: seconds to connect.

    Attributes:
        request: the one that the job was submitted for; each look counts into its bytes.
    """

    request: Request

    def __init__(
        self,
        target: PollingProvider,
        endpoint: Endpoint,
        job: polling.Job,
        *,
        until: float | None,
        connect: float | None,
    ) -> None:
        self.target, self.endpoint, self.job = target, endpoint, job
        self.own = target.own
        self.connect = connect
        self.loop = asyncio.get_running_loop()
        self.until = until
        if until is not None and job.cancel is not None:
            self.until = until - min(_CANCEL, _KEPT * (until - self.loop.time()))
        self.wait = self.own.interval
        self.missing = 0
        self.fetches = 0
        self.word = ""
        self.heard = self.loop.time()

    def check_addresses(self) -> None:
        """
        Look at the addresses that came with the job, before anything is sent there.

        Raises:
            ResponseError: one is not the service's own; the key does not go there.
        """
        for url in (self.job.poll, self.job.result, self.job.cancel):
            if url is not None:
                self._at(url)

    def _at(self, url: str) -> Endpoint:
        target = self.target
        try:
            found = URL(url)
            own = found.origin() == target._origin()  # noqa: SLF001  # one thing in two classes
        except ValueError:
            own, found = False, URL()
        if not own and not (found.scheme == "https" and _under(found.host or "", self.own.hosts)):
            raise ResponseError(
                f"{target.provider} sent {target.model!r} to {excerpt(url)} for its result, which is not an address of"
                f" {target.provider}: the key was not sent there; check the base URL",
                provider=target.provider,
                model=target.model,
                retryable=False,
            )
        return Endpoint(
            url,
            self.endpoint.headers,
            provider=target.provider,
            model=target.model,
            secrets=self.endpoint.secrets,
        )

    # -- until it ends ------------------------------------------------------------------------------------------

    async def follow(self) -> bytes:
        """The body of the result."""
        try:
            # The answer to the submission may be the end already.
            done = await self._heard(msgspec.json.encode(self.job.answer)) if "status" in self.job.answer else None
            while done is None:
                await self._pause()
                done = await self._look()
        except asyncio.CancelledError:
            await self._cancel()
            raise
        except APITimeoutError:
            await self._cancel()
            raise
        return done

    async def _pause(self) -> None:
        left = self._left()
        if left is not None and left <= self.wait:
            await asyncio.sleep(max(left, 0.0))
            raise self._late()
        await asyncio.sleep(min(self.wait, _PATIENCE))
        self.wait = min(self.wait * self.own.growth, max(self.own.longest, self.own.interval))

    def _left(self) -> float | None:
        if self.until is not None:
            return self.until - self.loop.time()
        if self.loop.time() - self.heard > _PATIENCE:
            raise self._late()
        return None

    def _late(self) -> APITimeoutError:
        target = self.target
        last = f"its last status was {excerpt(self.word)!r}" if self.word else "it never said anything"
        return APITimeoutError(
            f"{target.provider} did not finish the job for {target.model!r} in time ({last});"
            " raise timeout= or give a fallback_model=",
            provider=target.provider,
            model=target.model,
            request_id=self.job.id,
        )

    async def _look(self) -> bytes | None:
        """Ask once; None as long as there is more to wait for."""
        answer = await self._get(self.job.poll)
        if answer is None:
            return None
        if answer.status in (200, 202):
            return await self._heard(answer.body)
        if answer.status in (404, 410):
            # Right after it was taken, a job may not be known everywhere yet.
            return await self._heard(answer.body, lost=True)
        raise self.target.refused(answer.status, answer.body, answer.headers, self.endpoint)

    async def _get(self, url: str, *, patient: bool = True) -> Any:
        """An answer, or None where only time can tell more; a failing server is waited for with ``patient``."""
        left = self._left()
        limits = aiohttp.ClientTimeout(
            total=_LOOK if left is None else max(min(left, _LOOK), 0.001), sock_connect=self.connect
        )
        try:
            answer = await self.target.transport.ask("GET", self._at(url), limits)
            self.request.bytes_received += len(answer.body)
        except (APIConnectionError, APITimeoutError) as error:
            if not error.retryable:
                raise
            return None
        if answer.status in _PASSING or (answer.status >= 500 and patient):
            asked = retry_after_seconds(answer.headers)
            if asked is not None:
                self.wait = max(self.wait, asked)
            return None
        self.heard = self.loop.time()
        return answer

    async def _heard(self, body: bytes, *, lost: bool = False) -> bytes | None:
        """Take what an answer says of the job."""
        try:
            answer = msgspec.json.decode(body, type=dict[str, Any])
        except UNREADABLE:
            answer = {}
            if not lost:
                return None  # a page of some proxy; the job goes on all the same
        status = polling.status_of(answer, self.own)
        if lost and status.state == "waiting":
            status.state = "missing"
            status.word = status.word or "not found"
        if status.word != self.word or status.progress is not None:
            self.word = status.word
            tell_progress(status.word, status.progress, self.target.asked)
        if status.state == "missing":
            self.missing += 1
            if self.missing <= self.own.grace:
                return None
        if status.state == "waiting":
            self.missing = 0
            return None
        if status.state == "done":
            return body if self.job.result is None else await self._fetch()
        raise self.target.failure(status, answer)

    async def _fetch(self) -> bytes | None:
        """The result, where it lies at an address of its own."""
        assert self.job.result is not None  # noqa: S101  # the caller has looked
        # A result may itself be an error of the model, which no waiting changes.
        self.fetches += 1
        answer = await self._get(self.job.result, patient=self.fetches < _FETCHES)
        if answer is None:
            return None
        if answer.status == 200:
            return bytes(answer.body)
        raise self.target.refused(answer.status, answer.body, answer.headers, self.endpoint)

    async def _cancel(self) -> None:
        """Have the service stop, if it can; what comes of that changes nothing for the caller."""
        if self.job.cancel is None:
            return
        limits = aiohttp.ClientTimeout(total=_CANCEL, sock_connect=self.connect)
        try:
            await self.target.transport.ask(self.own.cancel_method, self._at(self.job.cancel), limits)
        except ProviderError as error:
            from llm_master.record import logger

            logger.debug("%s: the job %s was not cancelled: %s", self.target.provider, self.job.id, error)


def _under(host: str, domains: tuple[str, ...]) -> bool:
    host = host.lower().rstrip(".")
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
