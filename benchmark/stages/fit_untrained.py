"""The thresholds and scales of a rule without learning, chosen on the training subjects."""

import json
from collections.abc import Iterator
from typing import TypedDict

from benchmark.artifacts.options import FitOptions
from benchmark.stages.context import Context
from benchmark.stages.train_unet import scaled_volume
from vesselgan.data import StoredSubject, VolumeStore, open_store
from vesselgan.untrained import LabelledVolume, default_scales_mm, fit

__all__ = ["fit_untrained"]


class FittedRules(TypedDict):
    """Region -> its rule, as `UntrainedRule.to_dict` tells it."""

    rules: dict[str, dict[str, object]]


def fit_untrained(context: Context[FitOptions]) -> FittedRules:
    """Write `rules.json`: region -> the rule of the option `method` that is best on the training subjects.

    Volumes are scaled as wholes (`robust_range`), whatever the recipe gives networks. Without brain masks there is no
    intracranial rule. Raises InputError where no training subject has a vessel.
    """
    store = open_store(context.inputs["data"] / "store")
    method = context.options["method"]
    training = [subject for subject in store.subjects if subject.split == "train"]
    scales = default_scales_mm([subject.spacing_mm for subject in training]) if method == "vesselness" else ()

    def volumes() -> Iterator[LabelledVolume]:
        for index, subject in enumerate(training):
            context.progress(index, len(training), "training volumes")
            yield _labelled(store, subject)

    rules = {region: rule.to_dict() for region, rule in fit(method, volumes(), scales_mm=scales).items()}
    (context.folder / "rules.json").write_text(json.dumps(rules, indent=1), encoding="utf-8")
    return {"rules": rules}


def _labelled(store: VolumeStore, subject: StoredSubject) -> LabelledVolume:
    mask = store.mask(subject.key)
    image, truth = scaled_volume(store, subject, "volume"), store.label(subject.key)
    return LabelledVolume(subject.key, image, truth, subject.spacing_mm, {} if mask is None else {"intracranial": mask})
