"""What is asked: a YAML page, its cells and its claims, read and checked."""

__all__: list[str] = []
