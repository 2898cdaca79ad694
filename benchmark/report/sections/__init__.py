"""What the page shows, as plain dataclasses: every number is turned into text here, so that templates only place it."""

__all__: list[str] = []
