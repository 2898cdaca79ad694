"""Golden values of the metrics and the generators of their inputs, for the tests that compare with them."""

import functools
import importlib.util
import json

from paths import TESTS

_FOLDER = TESTS / "golden"
_spec = importlib.util.spec_from_file_location("golden_cases", _FOLDER / "cases.py")
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)
EXPECTED = json.loads((_FOLDER / "metrics.json").read_text())


def golden_features(name):
    """Real and generated features of a case."""
    return cases.build_feature_case(cases.FEATURE_CASES[name])


@functools.cache  # the tubes take a while to draw
def golden_masks(name):
    """Truth, prediction and spacing of a case."""
    return cases.build_mask_case(cases.MASK_CASES[name])
