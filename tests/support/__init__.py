"""
What several tests share: a provider on a loopback socket (``fault_server``) and its behaviours.

Tests import it as ``from support.fault_server import FaultServer`` and ``from support.behaviours import ok, status``.
"""
