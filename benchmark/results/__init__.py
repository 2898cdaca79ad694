"""Run folders read back: which cells there are, and what was measured."""

__all__: list[str] = []
