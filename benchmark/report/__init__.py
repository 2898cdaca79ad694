"""What people look at, share and paste: results.json, tables, the page, the MLflow mirror."""

__all__: list[str] = []
