"""The version of each stage: raised when its code changes what it computes, so that old folders are not reused."""

__all__ = ["STAGE_VERSIONS"]

STAGE_VERSIONS = {
    "verify": 1,
    "prepare": 5,
    "train_gan": 2,
    "synthesise": 2,
    "import_pairs": 1,
    "simulate_pairs": 1,
    "reference": 4,
    "score": 4,
    "train_unet": 3,
    "evaluate": 4,
    "fit_untrained": 1,
    "evaluate_untrained": 2,
    "measure": 3,
}
