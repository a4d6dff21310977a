"""
How one server draws, and what its models take, as data.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from llm_master.built import build
from llm_master.per_model import PerModel

__all__ = ["DrawDialect", "ImagesDialect", "PollingDialect", "State"]

State = Literal["waiting", "done", "failed", "moderated", "missing", "cancelled"]


class DrawDialect(PerModel, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What every service of images has in common.

    Attributes:
        drop: parameters that this server cannot take: an UnsupportedParameterError, or left out with drop_params.
        neutral: parameter -> a value that says what happens anyway: left out without a word.
        rename: parameter -> the name this server wants.
        values: parameter -> the values that are accepted.
        words: parameter -> value -> the server's word for it.
        clamp: parameter -> [lowest, highest] accepted value; outside is an UnsupportedParameterError, or moved to the
            nearest bound with drop_params.
        defaults: body fields sent unless the caller gives them.
        instead: default -> the parameter beside which it is not sent.
        size: what becomes of ``size="1024x768"``: ``given``, sent as it is; ``sides``, sent as width and height;
            ``pair``, an object of the two under the renamed parameter.
        step: pixels that divide both sides; ratio: the longer side over the shorter at most; largest: pixels of the
            longer and of the shorter side at most. None for no such rule.
        longest_prompt: characters, None where nobody says.
        most_images: pictures that may be given to be changed.
        names: a model's name of ours -> the name that is sent, ``""`` for none.
        cost: dotted path in the answer of what it cost, None where it does not say.
        cost_unit: USD of 1 there, as a decimal number.
        per_model: part of a model's name, lower case -> fields that replace these; all parts that occur in the name
            count, a longer one after a shorter one.
    """

    drop: frozenset[str] = frozenset()
    neutral: dict[str, Any] = {}
    rename: dict[str, str] = {}
    values: dict[str, tuple[str, ...]] = {}
    words: dict[str, dict[str, str]] = {}
    clamp: dict[str, tuple[float, float]] = {}
    defaults: dict[str, Any] = {}
    instead: dict[str, str] = {}
    size: Literal["given", "sides", "pair"] = "given"
    step: int | None = None
    ratio: float | None = None
    largest: tuple[int, int] | None = None
    longest_prompt: int | None = None
    most_images: int = 0
    names: dict[str, str] = {}
    cost: str | None = None
    cost_unit: str = "1"


class ImagesDialect(DrawDialect, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one server speaks ``openai_images``; the defaults are those of an unknown compatible server.

    Attributes:
        edits: how pictures to be changed are sent: ``multipart``, ``json`` (a JSON body with references), ``field`` (a
            field of the ordinary request), or ``no``.
        edit_path: where such requests go; the ordinary path for ``field``.
        image_field: the name of the picture in a form, and of the field.
        reference: the reference to a picture in a JSON body, with ``{}`` for its address; one picture stands under
            ``one``, several under ``several``.
        urls: whether a picture may be an address: of a form, the request is then sent as ``json``.
        files: parameters that are files too.
        stream: whether the answer can be streamed.
        edit_drop: as ``drop``, for requests with pictures.
    """

    edits: Literal["multipart", "json", "field", "no"] = "no"
    edit_path: str = "/images/edits"
    image_field: str = "image"
    reference: dict[str, str] = msgspec.field(default_factory=lambda: {"image_url": "{}"})
    one: str = "images"
    several: str = "images"
    urls: bool = False
    files: tuple[str, ...] = ()
    stream: bool = False
    edit_drop: frozenset[str] = frozenset()


class PollingDialect(DrawDialect, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one service takes a job, and tells of it.

    Attributes:
        path: where a job is sent, with ``{model}``; versioned: where one goes whose model's name ends in ``:VERSION``,
            None where there are no versions.
        inside: the field of the body that holds prompt and parameters, ``""`` for the body itself.
        outside: parameters that stand in the body itself all the same.
        image_fields: the fields for pictures, in their order; image_list: one field that takes them all as a list.
        bare: whether a picture that is no address is sent as base64 alone, instead of a data URI.
        statuses: every status that the service documents -> what it means; an unknown one is waited upon.
        signs: parts of a failure's text, lower case, that mean a refusal by policy.
        poll, result, cancel: dotted paths in the answer to the job of the addresses to ask at, to fetch the result
            from where the status does not hold it, and to cancel at.
        cancel_method: of the request that cancels.
        hosts: domains that get the key besides the address of the service itself; only over https.
        delivery: domains on which results lie; elsewhere the answer has a note.
        found: dotted paths of the pictures in the result, the first that holds any.
        progress: dotted path of a number from 0 to 1, None where there is none.
        details: dotted paths of what a failed job says of its failure.
        interval, growth, longest: seconds before the first look, factor from one wait to the next, seconds at most.
        grace: looks that may find no such job right after it was taken.
    """

    path: str = "/{model}"
    versioned: str | None = None
    inside: str = ""
    outside: tuple[str, ...] = ()
    image_fields: tuple[str, ...] = ()
    image_list: str | None = None
    bare: bool = False
    statuses: dict[str, State] = {}
    signs: tuple[str, ...] = ()
    poll: str = "polling_url"
    result: str | None = None
    cancel: str | None = None
    cancel_method: Literal["POST", "PUT"] = "POST"
    hosts: tuple[str, ...] = ()
    delivery: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    progress: str | None = None
    details: tuple[str, ...] = ()
    interval: float = 0.5
    growth: float = 1.3
    longest: float = 5.0
    grace: int = 5


build(ImagesDialect, PollingDialect)
