"""Trained networks put to use: found, and run on noise or on scans."""

__all__: list[str] = []
