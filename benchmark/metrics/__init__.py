"""The metrics, a file each: what is measured, by which function, and how its numbers are told.

| kind | its function is given | and returns |
|---|---|---|
| `subject` | `MaskPair`: a true and a predicted mask, of one test subject and region | a number |
| `set` | `FeatureSets`: features of real and of generated patches | an `Estimate`, or `SetScores` |
| `labels` | `LabelPair`: statistics of real and of generated labels | a number |
| `audit` | `Audits`: how near patches lie to the training patches | a number |
| `cost` | `StepCosts`: what was measured of a training step | a number per round, or an exact count |

Options that are `OwnFeatures` name an extractor: the features are then those, not the run's network's.
A function of several metrics returns a mapping by key. Metrics that are `derived` have no function: they are made of
results.
"""

from benchmark.metrics.given import Audits, LabelPair, MaskPair, StepCosts
from benchmark.metrics.registry import Metric, Options, OwnFeatures, metric
from vesselgan.metrics import FeatureSets, SetScores
from vesselgan.metrics.estimates import Estimate

# Each registers what is in it, in the order in which tables have them.
# isort: off
from benchmark.metrics import segmentation
from benchmark.metrics import contours
from benchmark.metrics import gain
from benchmark.metrics import fid
from benchmark.metrics import frd
from benchmark.metrics import kid
from benchmark.metrics import prd
from benchmark.metrics import neighbours
from benchmark.metrics import labels
from benchmark.metrics import memorisation
from benchmark.metrics import costs
# isort: on

__all__ = [
    "Audits",
    "Estimate",
    "FeatureSets",
    "LabelPair",
    "MaskPair",
    "Metric",
    "Options",
    "OwnFeatures",
    "SetScores",
    "StepCosts",
    "contours",
    "costs",
    "fid",
    "frd",
    "gain",
    "kid",
    "labels",
    "memorisation",
    "metric",
    "neighbours",
    "prd",
    "segmentation",
]
