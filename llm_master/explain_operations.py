"""
What a call beside chat would send: vectors, ranking, moderation, sound and counts, as ``explain`` shows a question.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from multidict import CIMultiDict

from llm_master.asking import ASKINGS, MODERATION_MODEL, Asking, counted, parted
from llm_master.body_changes import changes_of
from llm_master.classes import Request
from llm_master.endpoint import COMMON_HEADERS
from llm_master.errors import ConfigurationError, InvalidRequestError, LLMError
from llm_master.explain import Plan, body_of, to_fetch, turns_of, unfetched
from llm_master.explain_cost import bound
from llm_master.explanation import DeploymentPlan, Explanation
from llm_master.inlining import encode_unfetched
from llm_master.media import FetchNeededError
from llm_master.operating import check_streams, encoded, operation_at, placed, question
from llm_master.operation_calls import batches
from llm_master.operations import NOUNS, Operation, not_served, operation_of
from llm_master.policy.estimate import estimate_input
from llm_master.redaction import redact
from llm_master.tokenizer import way_of
from llm_master.wire.openai_images import readable

if TYPE_CHECKING:
    from llm_master.stand_ins import StandIns

__all__ = ["explain_operation", "preview_operation"]

# Operations whose whole price is that of their input's tokens.
_BY_INPUT = ("embed", "moderate")


def explain_operation(llm: Any, call: str, model_name: str | None, first: Any, kwargs: dict[str, Any]) -> Explanation:
    """
    What a method of the client would do with these arguments; raises as it for bad input and unknown models.

    Args:
        call: the method's name; first: what it works on, None when it is among ``kwargs``.
    """
    return _plan(llm, call, model_name, first, kwargs).explanation()


def preview_operation(
    llm: Any, call: str, model_name: str | None, first: Any, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The JSON body alone, of a form its fields; raises as ``explain.preview``."""
    return body_of(_plan(llm, call, model_name, first, kwargs))


def _plan(llm: Any, call: str, model_name: str | None, first: Any, kwargs: dict[str, Any]) -> _OperationPlan:
    if call == "count_tokens":
        if model_name is None:
            raise InvalidRequestError(f"call={call!r} needs the name of a model")
        return _CountPlan(llm, model_name, first, kwargs)
    return _OperationPlan(llm, _asked(call, model_name, first, kwargs))


def _asked(call: str, model_name: str | None, first: Any, kwargs: dict[str, Any]) -> Asking:
    ask = ASKINGS.get(call)
    if ask is None:
        known = ", ".join((*ASKINGS, "count_tokens"))
        raise InvalidRequestError(f"call={call!r} is none that can be explained; give query or {known}")
    if model_name is None:
        if call != "moderate":
            raise InvalidRequestError(f"call={call!r} needs the name of a model")
        model_name = MODERATION_MODEL
    try:
        asked = ask(model_name, *(() if first is None else (first,)), **kwargs)
    except TypeError as error:
        raise InvalidRequestError(f"{call} of {model_name!r}: {str(error).partition('() ')[2]}") from error
    if call == "transcribe":
        from llm_master.sound import read_sound

        # Nothing else waits for this call, so the file is read right here.
        asked = asked._replace(payload=read_sound(asked.payload))
    return asked


class _OperationPlan(Plan):
    """The arguments of one call beside chat, prepared as the call does."""

    chat = False

    def __init__(self, llm: Any, asked: Asking) -> None:
        self.llm, self.asked, self.model_name = llm, asked, asked.model_name
        self.engine = llm._engine or llm._load_engine()  # noqa: SLF001  # the client's own part
        self.stream, self.api, self.cache, self.moderation = asked.stream, None, False, False
        self.error: LLMError | None = None
        self.engine.check_model_name(self.model_name)
        of_call, given = self._parted()
        of_call.setdefault("drop_params", llm._drop_params)  # noqa: SLF001  # the client's own part
        self.fallbacks = (given.pop("fallback_model", None), given.pop("fallback_config", None))
        self.headers = given.pop("extra_headers", None)
        self.params = given
        self.call = self.engine.quiet_call(self.model_name, self._turns(), headers=self.headers, **of_call)
        self.call.kind = asked.name

    def _parted(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of the call, and all else that was given, checked."""
        of_call, given = parted(self.asked.name, self.model_name, self.asked.given)
        checked = {name: value for name, value in given.items() if name not in ("fallback_model", "fallback_config")}
        self.engine.check_params(self.model_name, checked)
        return of_call, given

    def _turns(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": text} for text in self.asked.weighed]

    def _deployment(self, place: Any, health: Any, params: dict[str, Any], stand_ins: StandIns) -> DeploymentPlan:
        plan = super()._deployment(place, health, params, stand_ins)
        if plan.family is None and not (self.asked.name == "count" and getattr(place.target, "counts", False)):
            # Code of the user's own answers questions, and some of it counts.
            findings: list[str] = []
            plan.family = self.asked.name
            self.refused(plan, not_served(plan.provider, self.asked.name, plan.model), findings)
            plan.findings = tuple(findings)
        return plan

    def fill(
        self, plan: DeploymentPlan, target: Any, params: dict[str, Any], stand_ins: StandIns, findings: list[str]
    ) -> bytes | None:
        """As for a question, by the route of the operation."""
        name = plan.family = self.asked.name
        try:
            operation = operation_at(target, name)
            if self.stream:
                check_streams(target, name, operation)
            via = target.sibling(operation.family or target.row.families[0])
            plan.family = f"{operation.form} {name}"
            payload = self._payload(plan, operation, findings)
            request = self._request(via, params)
            data, headers = self._written(plan, via, operation, payload, request)
        except LLMError as error:
            self.refused(plan, error, findings)
            return None
        plan.url = None if plan.url is None else stand_ins.shown(plan.url)
        plan.headers = self.shown_headers(headers, via, stand_ins)
        kind, mark, _ = plan.headers.get("Content-Type", "").partition("; boundary=")
        if mark:
            plan.headers["Content-Type"] = kind  # each request has a boundary of its own
        plan.body = msgspec.json.decode(readable(data))
        plan.dropped = request.dropped
        plan.changes = changes_of(
            params,
            plan.body,
            request.dropped,
            lambda own: readable(self._encoded(via, operation, payload, self._request(via, own, drop=True))[0]),
        )
        self._bound(plan, via, data, findings)
        return data

    def _payload(self, plan: DeploymentPlan, operation: Operation, findings: list[str]) -> Any:
        """What the first request works on."""
        if self.asked.name != "embed":
            return self.asked.payload
        parts = batches(self.asked.payload, operation.inputs, operation.tokens)
        if len(parts) > 1:
            findings.append(
                f"{len(self.asked.payload)} texts go to {plan.provider} in {len(parts)} requests; the first is shown"
            )
        return parts[0]

    def _request(self, target: Any, params: dict[str, Any], *, drop: bool = False) -> Request:
        call = self.call
        return Request(
            *(target.provider, target.model, call.messages, params),
            stream=self.stream,
            headers=call.headers,
            drop_params=drop or call.drop_params,
        )

    def _encoded(self, via: Any, operation: Operation, payload: Any, request: Request) -> tuple[bytes, dict[str, str]]:
        """The body and the headers that it needs of its own."""
        return encoded(via, operation, (self.asked.name, payload), request)

    def _written(
        self, plan: DeploymentPlan, via: Any, operation: Operation, payload: Any, request: Request
    ) -> tuple[bytes, dict[str, str]]:
        """The body as it is sent and all headers but the caller's; the address is written into the plan."""
        headers = CIMultiDict(COMMON_HEADERS)
        data, own = self._encoded(via, operation, payload, request)
        endpoint = via._endpoint  # noqa: SLF001  # the target's own part
        if endpoint is not None:
            there = placed(via, operation, endpoint)
            plan.url = redact(str(there.url), *via.secrets)
            headers.update(there.headers)
        headers.update(own)
        return data, dict(headers)

    def _bound(self, plan: DeploymentPlan, via: Any, data: bytes, findings: list[str]) -> None:
        name = self.asked.name
        plan.output_tokens = 0 if name in (*_BY_INPUT, "rerank") else None
        if name in _BY_INPUT:
            plan.cost_bound = bound(plan, via, data, findings)
        elif name == "speak":
            plan.cost_bound = bound(plan, via, data, findings, {"characters": len(self.asked.payload)})
        elif not via.row.free:
            findings.append(f"what {NOUNS[name]} cost is not told by tokens alone, so there is no bound of it")


class _CountPlan(_OperationPlan):
    """A count of tokens: a request to the provider where it has a route for that, else nothing is sent."""

    def __init__(self, llm: Any, model_name: str, messages: Any, kwargs: dict[str, Any]) -> None:
        given = dict(kwargs)
        self._asked_of = (messages, given.pop("prompt", None))
        #: Base64 that stands in for what would be fetched -> its address.
        self._fetched: dict[str, str] = {}
        super().__init__(llm, Asking("count", model_name, None, given))

    def explanation(self, *, fallbacks: bool = True) -> Explanation:  # noqa: ARG002  # a count has none
        """The whole of it."""
        return super().explanation(fallbacks=False)

    def _parted(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return counted(self.engine, self.model_name, self.asked.given)

    def _turns(self) -> list[dict[str, Any]]:
        return turns_of(self.engine, *self._asked_of)

    def _pool(self, model_name: str, api: str | None) -> tuple[Any, StandIns, tuple[str, ...]]:
        pool, stand_ins, findings = super()._pool(model_name, api)
        here = pool is not None and self.engine.assembly.counted_here(model_name) is not None
        return pool, stand_ins, () if here else findings  # this machine needs no key

    def _deployment(self, place: Any, health: Any, params: dict[str, Any], stand_ins: StandIns) -> DeploymentPlan:
        target = place.target
        row = getattr(target, "row", None)
        if getattr(target, "counts", False) or (row is not None and operation_of(row, "count") is not None):
            return super()._deployment(place, health, params, stand_ins)
        source, detail = way_of(self.call.messages, params, target.model)
        said = f"{target.provider} has no endpoint that counts; this machine does ({source}: {detail}), nothing is sent"
        self.error = self.error or ConfigurationError(f"no body to be shown for {self.model_name!r}: {said}")
        return DeploymentPlan(
            name=place.name,
            weight=health.weight if health is not None else 1.0,
            provider=target.provider,
            model=target.model,
            family=source,
            input_tokens=estimate_input(self.call.messages, params),
            output_tokens=0,
            cost_bound=Decimal(0),
            sends=False,
            findings=(said,),
        )

    def fill(
        self, plan: DeploymentPlan, target: Any, params: dict[str, Any], stand_ins: StandIns, findings: list[str]
    ) -> bytes | None:
        """As for any operation, with words in place of what would be fetched."""
        data = super().fill(plan, target, params, stand_ins, findings)
        plan.body = unfetched(plan.body, self._fetched)
        findings += to_fetch(self._fetched)
        return data

    def _encoded(
        self,
        via: Any,
        operation: Operation,
        payload: Any,  # noqa: ARG002  # it is made here
        request: Request,
    ) -> tuple[bytes, dict[str, str]]:
        if operation.template is not None:
            return question(request), {}
        try:
            body = via.encode(request)
        except FetchNeededError as needed:
            body, self._fetched = encode_unfetched(via, request, needed)
        return super()._encoded(via, operation, msgspec.json.decode(body), request)

    def _written(
        self, plan: DeploymentPlan, via: Any, operation: Operation, payload: Any, request: Request
    ) -> tuple[bytes, dict[str, str]]:
        if operation.template is not None:
            operation = msgspec.structs.replace(operation, path=operation.template)  # which is asked first
        return super()._written(plan, via, operation, payload, request)

    def _payload(self, plan: DeploymentPlan, operation: Operation, findings: list[str]) -> Any:
        if operation.template is not None:
            findings.append(f"the prompt that {plan.provider} makes of this goes to {operation.path}, and is counted")
        return None

    def _bound(self, plan: DeploymentPlan, *_: Any) -> None:
        plan.output_tokens, plan.cost_bound = 0, Decimal(0)
