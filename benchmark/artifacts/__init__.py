"""What lies under runs/stages: the folders of stages, their versions, and the files that stages hand to one another."""

__all__: list[str] = []
