"""
Telemetry of calls: OpenTelemetry (the extra ``otel``) and Prometheus (the extra ``prometheus``).

Nothing here is imported, and nothing measured, until a client asks for it: ``QueryLLM(telemetry="otel")``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_master.telemetry.otel import OpenTelemetry
    from llm_master.telemetry.prometheus import Prometheus

__all__ = ["OpenTelemetry", "Prometheus", "instrument", "listeners_of"]

_HOMES = {"OpenTelemetry": "llm_master.telemetry.otel", "Prometheus": "llm_master.telemetry.prometheus"}
_NAMES = {"otel": "OpenTelemetry", "prometheus": "Prometheus"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def listeners_of(given: Any) -> list[Callable[[Any], Any]]:
    """
    The listeners that ``telemetry=`` means.

    Args:
        given: ``"otel"``, ``"prometheus"``, an ``OpenTelemetry`` or ``Prometheus``, or a list of these.

    Raises:
        ConfigurationError: it is none of these, or its extra is not installed.
    """
    found = []
    for each in given if isinstance(given, (list, tuple)) else (given,):
        if isinstance(each, str) and each in _NAMES:
            found.append(__getattr__(_NAMES[each])())
        elif callable(each) and not isinstance(each, type):
            found.append(each)
        else:
            raise ConfigurationError(
                f"telemetry={each!r}: give 'otel', 'prometheus', or an OpenTelemetry(...) or Prometheus(...) object"
            )
    return found


def instrument(llm: Any, telemetry: Any = "otel") -> Callable[[], None]:
    """
    Measure the calls of a client from now on.

    Args:
        llm: a ``QueryLLM``; telemetry: as of ``QueryLLM(telemetry=...)``.

    Returns:
        A function that ends it; calls that run by then are still measured to their end.

    Raises:
        ConfigurationError: as ``listeners_of``.
    """
    from llm_master.telemetry.watching import Switch

    switches = [Switch(listener) for listener in listeners_of(telemetry)]
    removes = [llm.on_event(switch) for switch in switches]

    def stop() -> None:
        for switch, remove in zip(switches, removes, strict=True):
            switch.end(remove)

    return stop
