"""
``llm.explain``: everything that a call does before its request is sent, and then nothing is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from multidict import CIMultiDict

from llm_master.arguments import FileNeededError, later
from llm_master.base_provider import UnifiedProvider, implementations, row_of
from llm_master.body_changes import changes_of
from llm_master.candidates import candidates
from llm_master.classes import Request
from llm_master.endpoint import COMMON_HEADERS
from llm_master.errors import ConfigurationError, InvalidRequestError, LLMError
from llm_master.explain_cost import bound, images_of, most_output
from llm_master.explanation import DeploymentPlan, Explanation, LimitPlan, StepPlan
from llm_master.fetch_rules import without_query
from llm_master.inlining import encode_unfetched
from llm_master.media import FetchNeededError
from llm_master.policy.estimate import estimate_input
from llm_master.redaction import MASK, Secret, redact
from llm_master.resume import check_mode
from llm_master.stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Plan", "body_of", "explain", "preview", "to_fetch", "turns_of", "unfetched"]

# Headers whose value is a secret, whoever gave it.
_SECRET_NAMES = ("authorization", "cookie", "key", "token", "secret", "signature", "password")
# Bytes of a file that are read: more than the messages take of any kind, which is what refuses a larger one.
_MOST_OF_A_FILE = 256 * 1024 * 1024


def explain(llm: Any, model_name: str | None = None, messages: Any = None, **kwargs: Any) -> Explanation:
    """What ``llm.query`` would do with these arguments; raises as it for bad input and unknown models."""
    return Plan(llm, model_name, messages, kwargs).explanation()


def preview(llm: Any, model_name: str | None = None, messages: Any = None, **kwargs: Any) -> dict[str, Any]:
    """
    The JSON body alone.

    Raises:
        LLMError: there is none, for the reason that ``query`` would give.
    """
    return body_of(Plan(llm, model_name, messages, kwargs))


def body_of(plan: Plan) -> dict[str, Any]:
    """The JSON body that a plan's first request has; raises as ``preview``."""
    found = plan.explanation(fallbacks=False)
    if found.body is None:
        raise plan.error or ConfigurationError(
            f"{found.model_name!r} is served by code of your own ({found.steps[0].provider}), which has no body to be"
            " shown; call it with query()"
        )
    body: dict[str, Any] = found.body
    return body


class Plan:
    """
    The arguments of one call, prepared as ``query`` does.

    Attributes:
        chat: whether it is a question, and not another operation.
    """

    chat = True

    def __init__(self, llm: Any, model_name: str | None, messages: Any, kwargs: dict[str, Any]) -> None:
        self.llm = llm
        if model_name is None:
            model_name = llm._default_model()  # noqa: SLF001  # the client's own part
        self.engine = engine = llm._engine or llm._load_engine()  # noqa: SLF001  # the client's own part
        self.model_name = model_name
        given = dict(kwargs)
        self.stream = bool(given.pop("stream", False))
        self.fallbacks = (given.pop("fallback_model", None), given.pop("fallback_config", None))
        self.api = given.pop("api", None)
        self.cache = given.pop("cache", None)
        self.headers = given.pop("extra_headers", None)
        check_mode(given.pop("on_interrupt", None))
        given.pop("repairs", None)
        self.moderation = bool(given.pop("moderation", False))
        drop = given.pop("drop_params", None)
        if self.cache and engine.caching is None:
            raise InvalidRequestError("cache=True, but this client has no cache: give QueryLLM(cache='memory')")
        prompt = given.pop("prompt", None)
        of_call = {name: given.pop(name) for name in _OF_CALL if name in given}
        self.params = engine.shaped(given)[0] if "tools" in given or "response_format" in given else given
        engine.check_model_name(model_name)
        if self.params or self.headers:
            more = {} if self.headers is None else {"extra_headers": self.headers}
            engine.check_params(model_name, {**self.params, **more})
        turns = turns_of(engine, messages, prompt)
        if drop is None:
            drop = llm._drop_params  # noqa: SLF001  # the client's own part
        self.call = engine.quiet_call(model_name, turns, headers=self.headers, drop_params=drop, **of_call)
        #: The first error that keeps a body from being made.
        self.error: LLMError | None = None

    def explanation(self, *, fallbacks: bool = True) -> Explanation:
        """The whole of it."""
        steps = [self._step(self.model_name, self.api, self.params, fallback=False)]
        if fallbacks:
            steps += [self._step(name, None, own, fallback=True) for name, own in self._fallbacks()]
        times = self.call.timeouts
        return Explanation(
            model_name=self.model_name,
            stream=self.stream,
            steps=tuple(steps),
            timeouts={name: getattr(times, name) for name in times.__struct_fields__},
            attempts=self.call.policy.max_attempts,
            cached=self.engine.caching is not None and (self.cache is None or bool(self.cache)),
        )

    def _fallbacks(self) -> list[tuple[str, dict[str, Any]]]:
        names, config = self.fallbacks
        settings = self.engine.assembly.fallbacks_of(self.model_name)
        found: list[tuple[str, dict[str, Any]]] = self.engine.fallbacks(_Named(settings), names, config, chat=self.chat)
        return found

    def _step(self, model_name: str, api: str | None, params: dict[str, Any], *, fallback: bool) -> StepPlan:
        llm = self.llm
        self.engine.check_model_name(model_name)
        route = llm.route(model_name)
        registry = llm._named_entries()  # noqa: SLF001  # the client's own part
        considered = candidates(
            model_name,
            route,
            rows={name: row_of(name) for name in UnifiedProvider.PROVIDER_CONFIGS},
            registry=registry,
            provider_map=llm.provider_map,
            extra_prefixes=implementations(),
        )
        chosen = next((each for each in considered if each.chosen), None)
        rule = f"{chosen.rule} {chosen.key!r}" if chosen is not None else route.how
        if route.api is not None:
            rule += f", api {route.api}"
        pool, stand_ins, findings = self._pool(model_name, api)
        plans: tuple[DeploymentPlan, ...] = ()
        provider = route.provider or getattr(route.provider_class, "__name__", "?")
        if pool is not None:
            provider = pool.provider
            health = {each.name: each for each in pool.balancer.health()}
            plans = tuple(
                self._deployment(place, health.get(place.name or pool.asked), params, stand_ins)
                for place in pool.places
            )
        return StepPlan(
            model_name=model_name,
            fallback=fallback,
            provider=provider,
            model=pool.model if pool is not None else route.model,
            rule=rule,
            candidates=considered,
            params=dict(params),
            deployments=plans,
            ready=not findings,
            findings=(*findings, _MODERATED) if self.moderation and not fallback else findings,
        )

    def _pool(self, model_name: str, api: str | None) -> tuple[Any, StandIns, tuple[str, ...]]:
        """The deployments, what stands in for what they lack, and what that is."""
        stand_ins = StandIns()
        try:
            return self.llm._pool(model_name, api), stand_ins, ()  # noqa: SLF001  # the client's own part
        except ConfigurationError as error:
            first = error
        try:
            pool = stand_ins.pool(self.llm, self.engine, model_name, api)
        except ConfigurationError as error:
            self.error = self.error or first
            return None, stand_ins, tuple(dict.fromkeys((str(first), str(error))))
        return pool, stand_ins, (str(first), *stand_ins.besides(str(first)))

    def _deployment(self, place: Any, health: Any, params: dict[str, Any], stand_ins: StandIns) -> DeploymentPlan:
        target = place.target.for_call(params)
        plan = DeploymentPlan(
            name=place.name,
            weight=health.weight if health is not None else 1.0,
            provider=target.provider,
            model=target.model,
            input_tokens=estimate_input(self.call.messages, params),
            limits=_limits(self.engine.admission.limiter, (*place.limits, *self.call.limits)),
            health=None if stand_ins else health,
        )
        if self.call.spending is not None:
            plan.budgets = self.call.spending.plans(self.engine.admission.limiter, place, self.call, params)
        row = getattr(target, "row", None)
        if row is None:
            plan.findings = ("code of your own makes the request: its body, headers and cost are not known before",)
            return plan
        findings: list[str] = []
        if target.url is None:
            findings.append(f"{target.provider} is started by the first call; address and key are known then")
        data = self.fill(plan, target, params, stand_ins, findings)
        if getattr(target, "_signer", None) is not None:
            findings += _sign(plan, target, data or b"")
        plan.findings = tuple(findings)
        return plan

    def fill(
        self, plan: DeploymentPlan, target: Any, params: dict[str, Any], stand_ins: StandIns, findings: list[str]
    ) -> bytes | None:
        """Write address, headers and body into the plan of one target; the body as it is sent, None for none."""
        plan.family = target.family
        plan.url, plan.stream_url = _urls(target, stand_ins)
        plan.headers = self.shown_headers(target.headers, target, stand_ins)
        return self._write(plan, target, params, findings)

    def shown_headers(self, given: Mapping[str, str], target: Any, stand_ins: StandIns) -> dict[str, str]:
        """The headers of a request with those of the caller, secrets masked."""
        headers = CIMultiDict(given or COMMON_HEADERS)
        for name, value in (self.headers or {}).items():
            headers[name] = value
        shown = {}
        for name, value in headers.items():
            found = stand_ins.shown(value)
            shown[name] = found if found != value else _masked(name, value, target.secrets)
        return shown

    def _write(self, plan: DeploymentPlan, target: Any, params: dict[str, Any], findings: list[str]) -> bytes | None:
        """Make the body, and what follows from it."""
        if not target.row.chats and "images" not in target.row.serves:
            error = target._no_chat()  # noqa: SLF001  # the words of the call
            self.refused(plan, error, findings)
            return None

        def request(given: dict[str, Any], *, drop: bool) -> Request:
            return Request(
                *(target.provider, target.model, messages, given),
                stream=self.stream,
                drop_params=drop,
                headers=self.call.headers,
            )

        messages = self.call.messages
        made = request(params, drop=self.call.drop_params)
        fetched: dict[str, str] = {}
        try:
            try:
                data: bytes = target.encode(made)
            except FetchNeededError as needed:
                data, fetched = encode_unfetched(target, made, needed)
        except LLMError as refusal:
            self.refused(plan, refusal, findings)
            return None
        messages = made.messages
        plan.body = unfetched(msgspec.json.decode(data), fetched)
        findings += to_fetch(fetched)
        if hasattr(target, "there"):
            # With pictures it goes to another path, and as a form.
            plan.url, plan.headers["Content-Type"] = target.there(made)
        plan.dropped = made.dropped
        plan.changes = changes_of(
            params, msgspec.json.decode(data), made.dropped, lambda given: target.encode(request(given, drop=True))
        )
        plan.output_tokens = most_output(target, plan.body, self.call.messages, params)
        if target.guard is not None and target.guard.notice is not None:
            findings.append(target.guard.notice)
        plan.cost_bound = bound(plan, target, data, findings, images_of(target, plan.body))
        return data

    def refused(self, plan: DeploymentPlan, error: LLMError, findings: list[str]) -> None:
        """Note why there is no body."""
        self.error = self.error or error
        plan.sendable = False
        findings.append(str(error))


_MODERATED = "moderation: one request to a moderation model comes before, with the user's last message; it is not shown"
# Arguments of query() that are the call's own.
_OF_CALL = ("timeout", "max_attempts", "fallback_on", "tags", "limit_wait", "max_cost", "hedge_after")


class _Named:
    """What ``Engine.fallbacks`` asks a pool for."""

    def __init__(self, fallbacks: Any) -> None:
        self.fallbacks = fallbacks


def turns_of(engine: Any, messages: Any, prompt: str | None) -> list[dict[str, Any]]:
    """The messages as ``query`` takes them, with the files that they name."""
    try:
        found: list[dict[str, Any]] = engine.normalise(messages, prompt=prompt, read_file=later)
    except FileNeededError:
        # Nothing else waits for this call, so the files are read right here.
        found = engine.normalise(messages, prompt=prompt, read_file=_read)
    return found


def _read(path: str) -> bytes:
    from pathlib import Path

    with Path(path).open("rb") as file:
        return file.read(_MOST_OF_A_FILE)


def _urls(target: Any, stand_ins: StandIns) -> tuple[str | None, str | None]:
    url = target.url
    if url is None:
        return None, None
    shown = [
        stand_ins.shown(redact(each, *target.secrets)) for each in (url, getattr(target, "_stream_url", None) or url)
    ]
    return shown[0], shown[1]


def _sign(plan: DeploymentPlan, target: Any, data: bytes) -> list[str]:
    """Add the headers of a signature; what is missing for it, or that there is one."""
    signer = target._signer  # noqa: SLF001  # the target's own part
    try:
        headers, missing = signer.shown(plan.url or target.url or "", data)
    except LLMError as error:
        headers, missing = {}, str(error)
    plan.headers.update(headers)
    return [f"{target.provider}: each request is signed when it is sent{f'; {missing}' if missing else ''}"]


def to_fetch(fetched: dict[str, str]) -> list[str]:
    """What is said of each address that would be fetched."""
    return [
        f"{without_query(url)} would be fetched, and sent as data; its type is known then, so the one that is shown"
        " may be another"
        for url in fetched.values()
    ]


def unfetched(value: Any, fetched: dict[str, str]) -> Any:
    """Decoded JSON with words in place of what is not fetched yet."""
    if isinstance(value, str):
        for data, url in fetched.items():
            value = value.replace(data, f"{{fetched from {without_query(url)}}}")
        return value
    if isinstance(value, dict):
        return {key: unfetched(each, fetched) for key, each in value.items()} if fetched else value
    return [unfetched(each, fetched) for each in value] if isinstance(value, list) else value


def _masked(name: str, value: str, secrets: tuple[str, ...]) -> str:
    lower = name.lower()
    if isinstance(value, Secret) or any(part in lower for part in _SECRET_NAMES):
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {MASK}" if space and scheme.isalpha() else MASK
    return redact(value, *secrets)


def _limits(limiter: Any, limits: tuple[Any, ...]) -> tuple[LimitPlan, ...]:
    used = getattr(limiter, "used", None)
    found = []
    for limit in limits:
        figures = used(limit.key) if used is not None else (None, None, None)
        if any(each is not None for each in (limit.rpm, limit.tpm, limit.max_concurrency)):
            found.append(
                LimitPlan(
                    key=limit.key,
                    rpm=limit.rpm,
                    tpm=limit.tpm,
                    max_concurrency=limit.max_concurrency,
                    requests=figures[0],
                    tokens=figures[1],
                    inflight=figures[2],
                )
            )
    return tuple(found)
