"""What a training step costs, and what a machine can do: time, memory, operations."""

__all__: list[str] = []
