"""The command line: ``llm-master``."""
