"""One small idea per file, each testable with an injected clock."""
