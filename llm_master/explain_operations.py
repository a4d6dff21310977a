"""
What a call beside chat would send: vectors, ranking, moderation and sound, as ``explain`` shows a question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from multidict import CIMultiDict

from llm_master.asking import ASKINGS, MODERATION_MODEL, OPTIONS, Asking
from llm_master.body_changes import changes_of
from llm_master.classes import Request
from llm_master.endpoint import COMMON_HEADERS
from llm_master.errors import InvalidRequestError, LLMError
from llm_master.explain import Plan, body_of, bound
from llm_master.operating import check_streams, encoded, operation_at, written
from llm_master.operation_calls import batches
from llm_master.operations import NOUNS, Operation
from llm_master.redaction import redact
from llm_master.wire.openai_images import readable

if TYPE_CHECKING:
    from llm_master.explanation import DeploymentPlan, Explanation
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
    return _OperationPlan(llm, _asked(call, model_name, first, kwargs)).explanation()


def preview_operation(
    llm: Any, call: str, model_name: str | None, first: Any, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The JSON body alone, of a form its fields; raises as ``explain.preview``."""
    return body_of(_OperationPlan(llm, _asked(call, model_name, first, kwargs)))


def _asked(call: str, model_name: str | None, first: Any, kwargs: dict[str, Any]) -> Asking:
    ask = ASKINGS.get(call)
    if ask is None:
        raise InvalidRequestError(f"call={call!r} is none that can be explained; give query or {', '.join(ASKINGS)}")
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
        self.engine = engine = llm._engine or llm._load_engine()  # noqa: SLF001  # the client's own part
        given = dict(asked.given)
        self.stream, self.api, self.cache, self.moderation = asked.stream, None, False, False
        self.fallbacks = (given.pop("fallback_model", None), given.pop("fallback_config", None))
        self.headers = given.pop("extra_headers", None)
        of_call = {name: given.pop(name) for name in OPTIONS if name in given}
        engine.check_model_name(self.model_name)
        more = {} if self.headers is None else {"extra_headers": self.headers}
        engine.check_params(self.model_name, {**given, **more})
        self.params = given
        turns = [{"role": "user", "content": text} for text in asked.weighed]
        self.call = engine.quiet_call(self.model_name, turns, headers=self.headers, **of_call)
        self.error: LLMError | None = None

    def fill(
        self, plan: DeploymentPlan, target: Any, params: dict[str, Any], stand_ins: StandIns, findings: list[str]
    ) -> bytes | None:
        """As for a question, by the route of the operation."""
        name = self.asked.name
        try:
            operation = operation_at(target, name)
            if self.stream:
                check_streams(target, name, operation)
            via = target.sibling(operation.family or target.row.families[0])
            plan.family = f"{operation.form} {name}"
            payload = self._payload(plan, operation, findings)
            data, headers = self._written(plan, via, operation, payload, params)
        except LLMError as error:
            self.refused(plan, error, findings)
            return None
        plan.url = None if plan.url is None else stand_ins.shown(plan.url)
        plan.headers = self.shown_headers(headers, via, stand_ins)
        kind, mark, _ = plan.headers.get("Content-Type", "").partition("; boundary=")
        if mark:
            plan.headers["Content-Type"] = kind  # each request has a boundary of its own
        plan.body = msgspec.json.decode(readable(data))
        plan.changes = changes_of(params, plan.body, (), lambda own: self._data(via, operation, payload, own))
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

    def _request(self, target: Any, params: dict[str, Any]) -> Request:
        call = self.call
        return Request(target.provider, target.model, call.messages, params, stream=self.stream, headers=call.headers)

    def _data(self, via: Any, operation: Operation, payload: Any, params: dict[str, Any]) -> bytes:
        """The body with other parameters, a form as JSON."""
        return readable(encoded(via, operation, (self.asked.name, payload), self._request(via, params))[0])

    def _written(
        self, plan: DeploymentPlan, via: Any, operation: Operation, payload: Any, params: dict[str, Any]
    ) -> tuple[bytes, dict[str, str]]:
        """The body as it is sent and all headers but the caller's; the address is written into the plan."""
        request, asked = self._request(via, params), (self.asked.name, payload)
        headers = CIMultiDict(COMMON_HEADERS)
        endpoint = via._endpoint  # noqa: SLF001  # the target's own part
        if endpoint is None:
            data, own = encoded(via, operation, asked, request)
            headers.update(own)
            return data, dict(headers)
        there, data = written(via, operation, asked, request, endpoint)
        plan.url = redact(str(there.url), *via.secrets)
        headers.update(there.headers)
        return data, dict(headers)

    def _bound(self, plan: DeploymentPlan, via: Any, data: bytes, findings: list[str]) -> None:
        name = self.asked.name
        plan.output_tokens = 0 if name in (*_BY_INPUT, "rerank") else None
        if name in _BY_INPUT:
            plan.cost_bound = bound(plan, via, data, findings)
        elif not via.row.free:
            findings.append(f"what {NOUNS[name]} cost is not told by tokens alone, so there is no bound of it")
