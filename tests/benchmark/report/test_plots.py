"""Charts, pictures and numbers of the page."""

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from benchmark.report.charts import (
    Curve,
    Level,
    Line,
    Points,
    arm_colours,
    prd_chart,
    subject_chart,
    training_chart,
    utility_chart,
)
from benchmark.report.pictures import FOUND, INVENTED, MISSED, overlay_picture
from benchmark.report.sections.text import deviation, number, signed


def test_a_prd_chart_shows_single_seeds_only_where_there_are_several() -> None:
    runs = np.linspace(0, 1, 1001) * np.ones((3, 1))
    one = Curve("#0173b2", [runs], [1 - runs])
    two = Curve("#0173b2", [runs, runs], [1 - runs, 1 - runs])
    floor = Curve("#808080", [runs], [1 - runs])
    lines = [prd_chart({"SN": curve}, floor, "title").count("stroke: #0173b2") for curve in (one, two)]
    assert lines[1] == lines[0] + 2
    assert "stroke: #808080" not in prd_chart({"SN": one}, None, "title")


def test_an_overlay_paints_each_kind_of_voxel_in_its_colour_and_in_radiological_view() -> None:
    truth, prediction = np.zeros((2, 3), dtype=bool), np.zeros((2, 3), dtype=bool)
    truth[0, 0] = prediction[0, 0] = truth[0, 2] = prediction[1, 0] = True
    picture = overlay_picture(np.zeros((2, 3), dtype=np.float32), truth, prediction, (2.0, 1.0), "alt")
    pixels = np.asarray(Image.open(BytesIO(b64decode(picture.uri.split(",")[1]))).convert("RGB"))
    assert pixels.shape == (3, 2, 3)  # rows of Y, columns of X
    colours = {place: "#" + bytes(pixels[place]).hex() for place in ((2, 1), (0, 1), (2, 0))}
    # X grows to the patient's right, which is on the left; Y to the front, which is at the top.
    assert colours == {(2, 1): FOUND, (0, 1): MISSED, (2, 0): INVENTED}
    assert picture.aspect == "4 / 3"


def test_charts_keep_every_digit_of_their_text_and_label_names_are_no_formulas() -> None:
    chart = subject_chart({"$a_1$": {"s": 0.12345, "t": 0.12355}}, {"$a_1$": "#0173b2"}, "title <x>", "y")
    assert "$a_1$" in chart
    assert re.search(r">0\.123\d+<", chart)
    assert 'aria-label="title &lt;x&gt;"' in chart
    assert "<metadata" not in chart


def test_a_chart_of_values_that_are_no_numbers_is_empty_but_there() -> None:
    line = Line("#0173b2", np.arange(3.0), np.full(3, np.nan))
    assert training_chart([line], "title", "y", log=True).startswith("<svg")


def test_a_utility_chart_marks_where_a_level_meets_the_curve_and_its_interval() -> None:
    curve = [Points("#808080", number, [0.1 * number, 0.12 * number]) for number in (1, 3, 6)]
    met = Level("#0173b2", [0.2, 0.3], 2.3, (1.5, 3.0))
    beyond = Level("#0173b2", [0.01, 0.02], None, None)
    mixed = [[Points("#de8f05", 3, [0.5, 0.6]), Points("#029e73", 6, [0.6, 0.7])]]
    charts = [utility_chart(curve, [level], lines, "title", "DSC") for level, lines in ((met, mixed), (beyond, []))]
    # The level's line in both; the diamond, its drop line and the interval only where there are any.
    strokes = [chart.count("stroke: #0173b2") for chart in charts]
    assert strokes[0] >= strokes[1] + 2 > 2
    for colour in ("#de8f05", "#029e73"):
        assert colour in charts[0]
        assert colour not in charts[1]
    assert all(f">{number}<" in charts[0] for number in (1, 3, 6))
    assert utility_chart(curve, [met], mixed, "title", "DSC") == charts[0]


def test_arms_have_different_colours_and_real_data_are_grey() -> None:
    learned = {f"variant {index}": "synthetic" for index in range(12)}
    arms = {"real": "real", "threshold": "untrained", "vesselness": "untrained", **learned}
    colours = arm_colours(arms)
    assert colours["real"] == "#808080"
    assert len(set(colours.values())) == len(arms)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.5, 3, "0.500"), (-0.5, 1, "−0.5"), (3.8e-6, 4, "3.8 × 10⁻⁶"), (0.0, 3, "0.000"), (12345.6, 1, "12\u2009345.6")],
)
def test_numbers_are_written_for_readers(value: float, decimals: int, text: str) -> None:
    assert number(value, decimals) == text


def test_differences_have_a_sign_and_small_deviations_no_false_zero() -> None:
    assert signed(0.25, 2) == "+0.25"
    assert signed(-0.25, 2) == "−0.25"
    assert deviation(1e-5, 3) == "< 0.001"
