"""On what a protocol runs: a user's scans in some layout, or the phantom."""

__all__: list[str] = []
