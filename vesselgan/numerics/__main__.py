"""Check operations in a process of its own, whose environment may narrow the instruction set: JSON in, JSON out.

Standard input: ``{"operations": [...], "threads": 1}``. Standard output: ``{"wrong": [text, ...], "seconds": 0.1}``.
"""

import json
import sys

import torch

from vesselgan.numerics.check import check_operations
from vesselgan.numerics.operations import Operation

__all__ = ["main"]


def main() -> None:
    """Read, check, write."""
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    findings = check_operations([Operation.from_plain(plain) for plain in asked["operations"]], "cpu")
    wrong = [str(finding.operation) for finding in findings if finding.wrong]
    seconds = sum(finding.seconds for finding in findings)
    json.dump({"wrong": wrong, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
