"""How the stages of a plan are run: scheduler, engine, workers, forecast."""

__all__: list[str] = []
