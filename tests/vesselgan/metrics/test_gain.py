"""The share of the real gain: its value by hand, its interval against known ones, and its coverage by simulation.

`python tests/vesselgan/metrics/test_gain.py` prints the table of coverages.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmark.claims.statistics import Crossed
from vesselgan.metrics import RealGainShare, real_gain_share

Array = NDArray[np.float64]
SAMPLES = 1000
ERROR = 2 * np.sqrt(0.95 * 0.05 / SAMPLES)


def scores(
    rng: np.random.Generator, seeds: int, subjects: int, share: float, parts: tuple[float, float, float]
) -> tuple[Array, Array, Array]:
    """Synthetic, real (seeds, subjects) and untrained (subjects,) of a gain of 0.1; parts are SDs of a seed, of a
    subject (which gain as the others do, more or less) and of one value.
    """
    of_seeds, of_subjects, rest = parts
    untrained = 0.7 + 0.05 * rng.normal(size=subjects)
    tables = []
    for gain in (0.1 * share, 0.1):
        own = of_subjects * rng.normal(size=subjects) + of_seeds * rng.normal(size=(seeds, 1))
        tables.append(untrained + gain + own + rest * rng.normal(size=(seeds, subjects)))
    return tables[0], tables[1], untrained


def share_of(tables: tuple[Array, Array, Array]) -> RealGainShare:
    return real_gain_share(synthetic=tables[0], real=tables[1], untrained=tables[2])


def coverages() -> Iterator[tuple[str, float, float]]:
    """Share of the samples whose interval holds the truth, among all and among those that have an interval."""
    rng = np.random.default_rng(0)
    for seeds, subjects in ((1, 10), (2, 10), (3, 10), (5, 5), (5, 10), (10, 20)):
        for share in (-0.5, 0.3, 0.9):
            for parts in ((0.01, 0.01, 0.02), (0.03, 0.03, 0.03), (0.1, 0.05, 0.05)):
                if seeds == 1 and parts[0]:
                    parts = (0.0, *parts[1:])  # of one seed it is about these models: no other seed is drawn
                found = [share_of(scores(rng, seeds, subjects, share, parts)) for _ in range(SAMPLES)]
                bounded = [(each.low, each.high) for each in found if each.low is not None and each.high is not None]
                inside = sum(low <= share <= high for low, high in bounded)
                name = f"{seeds} seeds x {subjects} subjects, share {share}, SD {'/'.join(map(str, parts))}"
                yield name, (inside + SAMPLES - len(bounded)) / SAMPLES, len(bounded) / SAMPLES


def test_the_share_by_hand() -> None:
    found = real_gain_share(synthetic=[[0.7, 0.8]], real=[[0.8, 1.0]], untrained=[0.6, 0.6])
    assert found.value == pytest.approx(0.15 / 0.3)
    assert (found.synthetic_gain, found.real_gain) == pytest.approx((0.15, 0.3))
    assert (found.seeds, found.subjects) == (1, 2)


def test_a_share_below_nothing_is_negative_and_one_above_real_data_exceeds_one() -> None:
    rng = np.random.default_rng(0)
    for share in (-0.8, 1.4):
        found = share_of(scores(rng, 5, 10, share, (0.002, 0.002, 0.002)))
        assert found.value == pytest.approx(share, abs=0.1)
        assert found.low is not None
        assert found.high is not None
        assert found.low < share < found.high
        assert (found.high < 0) == (share < 0)


def test_of_one_seed_it_is_fiellers_interval() -> None:
    """Against the closed form of the theorem: the roots of a quadratic."""
    rng = np.random.default_rng(1)
    tables = scores(rng, 1, 8, 0.6, (0.0, 0.02, 0.02))
    a, b = tables[0][0] - tables[2], tables[1][0] - tables[2]
    (vaa, vab), (_, vbb) = np.cov(a, b) / 8
    t2 = stats.t.ppf(0.975, 7) ** 2
    quadratic = [b.mean() ** 2 - t2 * vbb, -2 * (a.mean() * b.mean() - t2 * vab), a.mean() ** 2 - t2 * vaa]
    found = share_of(tables)
    assert (found.low, found.high) == pytest.approx(tuple(sorted(np.roots(quadratic))))


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_its_ends_are_where_the_claims_interval_of_the_difference_begins_to_hold_zero(seeds: int) -> None:
    """The harness judges crossed differences by `Crossed`: a share is judged by the same."""
    of_seeds = 0.001 if seeds == 2 else 0.004
    tables = scores(np.random.default_rng(seeds), seeds, 9, 0.4, (of_seeds, 0.01, 0.005))
    found = share_of(tables)
    assert found.low is not None
    assert found.high is not None
    for end, inside in ((found.low, 1e-6), (found.high, -1e-6)):
        for share, holds in ((end + inside, True), (end - inside, False)):
            low, high = Crossed((tables[0] - tables[2]) - share * (tables[1] - tables[2])).interval()
            assert (float(low) <= 0 <= float(high)) == holds


@pytest.mark.parametrize("seeds", [1, 5])
def test_a_real_gain_that_is_none_gives_no_share(seeds: int) -> None:
    worse = real_gain_share(synthetic=np.full((seeds, 3), 0.7), real=np.full((seeds, 3), 0.6), untrained=[0.6] * 3)
    assert (worse.value, worse.low, worse.high) == (None, None, None)
    assert worse.reason is not None
    assert "do not beat" in worse.reason


def test_a_real_gain_of_a_last_digit_is_none() -> None:
    share = real_gain_share(synthetic=[[0.5] * 6], real=[[0.1 + 0.2] * 6], untrained=[0.3] * 6)
    assert (share.value, share.low, share.high) == (None, None, None)


def test_a_real_gain_within_chance_of_none_gives_no_interval() -> None:
    rng = np.random.default_rng(2)
    untrained = rng.normal(0.7, 0.05, 10)
    real = untrained + 0.05 * rng.normal(size=(5, 10))
    real += 0.002 - (real - untrained).mean()  # barely better
    found = real_gain_share(synthetic=real - 0.01, real=real, untrained=untrained)
    assert found.value == pytest.approx(-4, rel=1e-6)
    assert (found.low, found.high) == (None, None)
    assert found.reason is not None
    assert "within chance of 0" in found.reason


def test_one_subject_has_no_interval_and_equal_values_one_of_no_width() -> None:
    one = real_gain_share(synthetic=[[0.7], [0.8]], real=[[0.9], [0.9]], untrained=[0.5])
    assert one.value == pytest.approx(0.625)
    assert (one.low, one.reason) == (None, "no interval of one subject")
    equal = real_gain_share(synthetic=np.full((2, 3), 0.7), real=np.full((2, 3), 0.9), untrained=[0.5] * 3)
    assert (equal.low, equal.high) == pytest.approx((0.5, 0.5))


def test_a_distance_is_turned_round() -> None:
    rng = np.random.default_rng(3)
    synthetic, real, untrained = scores(rng, 4, 8, 0.7, (0.01, 0.01, 0.01))
    upwards = real_gain_share(synthetic=synthetic, real=real, untrained=untrained)
    down = real_gain_share(synthetic=-synthetic, real=-real, untrained=-untrained, higher_is_better=False)
    assert (down.value, down.low, down.high) == (upwards.value, upwards.low, upwards.high)
    assert down.real_gain == -upwards.real_gain
    assert real_gain_share(synthetic=-synthetic, real=-real, untrained=-untrained).value is None


def test_a_higher_level_gives_a_wider_interval() -> None:
    tables = scores(np.random.default_rng(4), 5, 10, 0.5, (0.01, 0.01, 0.01))
    narrow, wide = (
        real_gain_share(synthetic=tables[0], real=tables[1], untrained=tables[2], level=level) for level in (0.8, 0.99)
    )
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"real": np.ones((2, 3))}, r"^synthetic \(2, 4\) and real \(2, 3\) must be"),
        ({"untrained": np.ones(3)}, r"^synthetic .* untrained \(3,\) \(subjects,\), of the same"),
        ({"synthetic": np.full((2, 4), np.nan)}, r"^synthetic holds NaN or infinite scores: leave out"),
        ({"untrained": np.ones((2, 4))}, r"^untrained must hold scores of subjects, but has shape"),
        ({"real": np.ones((0, 4))}, r"^real must hold scores of seeds x subjects, but has shape"),
        ({"level": 1.0}, r"^level must be between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], message: str) -> None:
    given = {"synthetic": np.ones((2, 4)), "real": np.ones((2, 4)), "untrained": np.zeros(4)} | changed
    with pytest.raises(ValueError, match=message) as error:
        real_gain_share(**given)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_intervals_cover_95_percent() -> None:
    for name, share, bounded in coverages():
        assert share > 0.93 - ERROR, (name, share)
        assert share < (1.0 if bounded < 0.99 or name.startswith("2 ") else 0.97 + ERROR), (name, share)


if __name__ == "__main__":
    for name, share, bounded in coverages():
        print(f"{share:.3f}  {bounded:.3f} have an interval  {name}")
