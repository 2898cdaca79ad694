"""A protocol of seconds, and what a run of it left."""

import json
from pathlib import Path
from typing import Any

__all__ = ["PROTOCOL", "made"]

PROTOCOL = """
protocol: small
title: One generator
default_profile: tiny
profiles:
  tiny:
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 4, validation: 2, test: 2}
    patch: [32, 32, 16]
    patches: {grid: [1, 1, 1], vessel: 7}
    filters: 16
    batch: 4
    steps: 4
    precision: {full: fp32, mixed: bf16}
    pairs: 16
    score: {extractor: random_resnet10, samples: 16}
    unet: {filters: [4, 8], batch: 8, steps: 4, validate_every: 4, learning_rate: 1.0e-2}
    measure: {rounds: 3, steps: 1, warmup: 1, threads: 1}
matrix: {variant: [SN], seed: [0]}
metrics: {fid: {}, prd: {clusters: 4, runs: 2}}
"""


def made(folder: Path) -> dict[str, Any]:
    """By key what each stage left, with the hashes of its files; of what is timed that it is there."""
    results = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/stages/*/result.json")}
    return {
        key: None if key.startswith(("measure-", "verify-")) else {"values": result["values"], "files": result["files"]}
        for key, result in results.items()
    }
