"""Sets of patches and of masks compared, in a run and for two folders."""

__all__: list[str] = []
