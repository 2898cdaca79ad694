"""Claims: what a protocol may say (`language`), which rows bear on it (`samples`), what they say (`statistics`,
`verdicts`, `missing`), and what would decide the rest (`planning`). No torch, no plots."""

__all__: list[str] = []
