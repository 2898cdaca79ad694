"""Protocol files: what is refused, where the error is said to be, and that defaults are the paper's values."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
from paths import ROOT

from benchmark.claims.family import LEVEL
from benchmark.metrics.registry import is_cost
from benchmark.protocol.cells import cells_of, most_cells
from benchmark.protocol.load import find_protocol, load_protocol
from benchmark.protocol.schema import Profile
from vesselgan.errors import InputError

PROTOCOLS = sorted((ROOT / "protocols").glob("*.yaml"))
VALID = """\
protocol: tiny
title: A test
default_profile: one
profiles:
  one: {patch: [32, 32, 16], filters: 16}
matrix: {variant: [SN, SN-MP], seed: [0]}
claims:
  - mixed lowers FID: {less: [fid @ SN-MP, fid @ SN]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def errors_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_protocol(write(folder, text))
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_every_shipped_protocol_loads(path: Path) -> None:
    assert load_protocol(path).profiles


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_the_rounds_of_every_shipped_protocol_can_decide_its_claims_about_time(path: Path) -> None:
    protocol = load_protocol(path)
    exact = "peak_memory_mib"  # a count, neither tested nor corrected for
    tested = [claim for claim in protocol.claims if claim.metrics != (exact,)]
    if any(is_cost(metric) and metric != exact for claim in tested for metric in claim.metrics):
        rounds = protocol.profiles[protocol.default_profile].measure.rounds
        assert 2 * 2**-rounds * len(tested) <= LEVEL


def test_a_valid_protocol_keeps_what_it_says(tmp_path: Path) -> None:
    protocol = load_protocol(write(tmp_path, VALID))
    assert protocol.profiles["one"].patch == (32, 32, 16)
    assert protocol.claims[0].name == "mixed lowers FID"
    assert protocol.claims[0].less == ("fid @ SN-MP", "fid @ SN")


def test_all_errors_come_at_once_with_line_and_column(tmp_path: Path) -> None:
    text = (
        VALID.replace("filters: 16", "filtrs: 16").replace("variant: [SN,", "variant: [SM,").replace("title", "titel")
    )
    assert errors_of(tmp_path, text) == [
        "tiny.yaml:1:1: title: is required",
        "tiny.yaml:2:1: titel: unknown key, did you mean 'title'?",
        "tiny.yaml:5:30: profiles.one.filtrs: unknown key, did you mean 'filters'?",
        "tiny.yaml:6:20: matrix.variant.0: unknown variant 'SM', known: GP, SN, SN-MP, c-SN-MP, DP, AR",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[32, 32, 16]", "[32, 30, 16]", "5:9: profiles.one.patch: every axis must be a multiple of 16"),
        ("filters: 16", "batch: -1", "5:30: profiles.one.batch: input should be greater than 0, not -1"),
        ("filters: 16", "recipe: corected", "5:30: profiles.one.recipe: unknown recipe 'corected', did you mean"),
        ("filters: 16", "precision: {mixed: fp17}", "5:42: profiles.one.precision.mixed: input should be 'bf16' or"),
        ("seed: [0]", "seed: []", "6:32: matrix.seed: list should have at least 1 item"),
        ("fid @ SN]", "fid @ SN-MB]", "no cell has the label 'SN-MB', did you mean 'SN-MP'"),
        ("fid @ SN]", "kid @ SN]", "8:5: claims.0: a claim compares one metric, not 'fid' with 'kid'"),
        ("less:", "lesser:", "8:24: claims.0.lesser: unknown key, did you mean 'less'?"),
        ("default_profile: one", "default_profile: on", "3:1: default_profile: no profile 'on', did you mean 'one'?"),
        ("fid @ SN]", "fid @ SN-MP]", "a claim compares two labels, not 'fid @ SN-MP' with itself"),
        ("claims:", "claims:\n  - mixed lowers FID: {less: [kid @ SN-MP, kid @ SN]}", "stands there twice"),
        (
            "filters: 16",
            "autoregressive: {steps: 5, filtrs: 8}",
            "5:57: profiles.one.autoregressive.filtrs: unknown key, did you mean 'filters'?",
        ),
        ("filters: 16", "autoregressive: {}", "5:30: profiles.one.autoregressive.steps: is required"),
        (
            "filters: 16",
            "autoregressive: {steps: 5, flips: [u]}",
            "5:65: profiles.one.autoregressive.flips.0: input should be 'x', 'y' or 'z', not 'u'",
        ),
        (
            "filters: 16",
            "autoregresive: {}",
            "5:30: profiles.one.autoregresive: unknown key, did you mean 'autoregressive'",
        ),
        ("fid @ SN]}", "fid @ SN], among: [SN, GP]}", "claims.0: 'among' is for 'best'"),
        (
            "less: [fid @ SN-MP, fid @ SN]}",
            "best: fid @ SN-MP, among: [SN-MP, NS]}",
            "'among' names 'NS', which is no synthetic label",
        ),
        ("less: [fid @ SN-MP, fid @ SN]}", "best: fid @ SN-MP, among: [SN, GP]}", "'among' lacks 'SN-MP' itself"),
        ("fid @ SN]}", "fid @ SN], at: equal money}", "claims.0.at: input should be 'equal steps' or 'equal time'"),
        ("filters: 16", "filters: 16, at: [1/2, 1/4]", "one.at: shares rise from one to the next, not [0.5, 0.25]"),
        ("filters: 16", "filters: 16, at: [1/0]", "one.at.0: '1/0' is no share; write 1/4 or 0.25"),
        ("filters: 16", "filters: 16, at: [3/2]", "one.at.0: input should be less than or equal to 1"),
        ("fid @ SN]}", "fid @ SN], by_factor: 1}", "claims.0.by_factor: input should be greater than 1"),
        ("[fid @ SN-MP, fid @ SN]}", "[kid @ SN-MP, kid @ SN], by_factor: 2}", "kid may be negative, so no factor"),
        (
            "less: [fid @ SN-MP, fid @ SN]}",
            "difference: [fid @ SN-MP, fid @ SN], at_most: 1, by_factor: 2}",
            "8:5: claims.0: 'by_factor' is for 'less' and 'greater'",
        ),
        (
            "fid @ SN]",
            "fid @ SN, fid @ SN]",
            "8:24: claims.0.less: compares two: [metric @ label, metric @ label], not 3",
        ),
        ("fid @ SN-MP", "fdi @ SN-MP", "8:31: claims.0.less.0: unknown metric 'fdi', did you mean 'fid'?"),
        ("fid @ SN]", "fid SN]", "claims.0.less.1: 'fid SN' is not of the form 'metric @ label'"),
        ("{less:", "{difference:", "8:5: claims.0: 'difference' needs 'at_most', a number"),
        ("{less:", "{equal:", "8:5: claims.0: 'equal' needs 'within', a number"),
        ("fid @ SN]}", "fid @ SN], at_most: 1}", "8:5: claims.0: 'at_most' is for 'difference'"),
        ("fid @ SN]}", "fid @ SN], within: 1}", "8:5: claims.0: 'within' is for 'equal' and 'compatible'"),
        ("fid @ SN]}", "fid @ SN], must_hold: 1}", "claims.0.must_hold: input should be a valid boolean"),
        ("fid @ SN]}", "fid @ SN], scope: trained models}", "fid has one value per trained model: only scope"),
        (
            "{less: [fid @ SN-MP, fid @ SN]}",
            "{best: [fid @ SN-MP, fid @ SN]}",
            "'best' is about one label, not 'SN-MP'",
        ),
        (
            "{less: [fid @ SN-MP, fid @ SN]}",
            "{best: [fid @ real]}",
            "8:5: claims.0: mixed lowers FID: 'best' compares a synthetic label with other",
        ),
        (
            "{less: [fid @ SN-MP, fid @ SN]}",
            "{best: [fid @ SN, dsc/all @ SN]}",
            "its metrics have different units: give",
        ),
        ("{less: [fid @ SN-MP, fid @ SN]}", "{best: []}", "claims.0.best: names a label and the metrics in which"),
        (
            "{less: [fid @ SN-MP, fid @ SN]}",
            "{compatible: dsc/all @ SN, within: 0.1}",
            "8:5: claims.0: mixed lowers FID: 'reference' has no published 'dsc/all @ SN'",
        ),
        (
            "{less: [fid @ SN-MP, fid @ SN]}",
            "{equal: [fid @ SN-MP, fid @ SN], within: 0}",
            "claims.0.within: input should",
        ),
        ("{less: [fid @ SN-MP, fid @ SN]}", "{}", "8:5: claims.0: a claim has exactly one of 'less', 'greater'"),
        (
            "{less: [fid @ SN-MP, fid @ SN]}",
            "{less: [step_time_ms @ SN-MP, step_time_ms @ SN], scope: training procedure}",
            "step_time_ms is measured in rounds on one machine",
        ),
        ("claims:", "exclude: [{varient: SN}]\nclaims:", "7:12: exclude.0: unknown axis 'varient', did you mean"),
        ("claims:", "exclude: [{variant: GP}]\nclaims:", "7:12: exclude.0: no cell has variant 'GP'"),
        ("claims:", "exclude: [{seed: 0}]\nclaims:", "'exclude' leaves no cell"),
        ("claims:", "reference: {fid @ SM: {value: 1, source: x}}\nclaims:", "no cell has the label 'SM'"),
        ("claims:", "exclude: [{seed: [0, 3]}]\nclaims:", "7:12: exclude.0: no cell has seed 3"),
        ("title: A test", "title: A test\nonly: cost", "3:1: only: input should be 'costs'"),
        ("filters: 16", "ema: 1", "should be less than 1"),
        ("filters: 16", "dp: {noise_multiplier: 0}", "should be greater than 0"),
        ("filters: 16", "recipe: corrected+D16", "unknown deviation 'D16'"),
        ("filters: 16", "filters: 12", "should be a multiple of 8"),
        ("filters: 16", "lr_critic: .inf", "should be a finite number"),
        ("filters: 16", "steps: true", "should be a valid integer"),
        ("filters: 16", "split: {seed: -5}", "greater than or equal to 0"),
        ("seed: [0]", "seed: [-1]", "greater than or equal to 0"),
        ("filters: 16}", "filters: 16}\n  two: {matrix: {variant: [GP]}, patch: [16, 16, 16]}", "one final position"),
        ("title: A test", "title: [A", "YAML:"),
        ("title: A test", "title: A\ntitle: B", "3:1: YAML: found duplicate key"),
    ],
)
def test_each_mistake_is_named_where_it_stands(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in VALID
    assert any(expected in line for line in errors_of(tmp_path, VALID.replace(old, new)))


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    assert errors_of(tmp_path, "- a\n- b\n") == [
        "tiny.yaml:1:1: a protocol is a mapping that starts with 'protocol: NAME'"
    ]


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    protocol = load_protocol(write(tmp_path, VALID.replace("filters: 16", "lr_critic: 1e-3")))
    assert protocol.profiles["one"].lr_critic == 0.001


def test_a_packaged_protocol_is_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_protocol("paper").name == "paper.yaml"
    assert find_protocol("protocols/paper.yaml").is_file()
    with pytest.raises(InputError, match="no such protocol file, nor a packaged protocol"):
        find_protocol("papre")


def test_the_defaults_of_a_profile_are_the_papers() -> None:
    paper = Profile()
    assert (paper.patch, paper.filters, paper.batch, paper.epochs) == ((128, 128, 64), 512, 4, 100)
    assert (paper.lr_generator, paper.lr_critic, paper.penalty_weight, paper.critic_steps) == (2e-4, 4e-4, 10, 1)
    assert (paper.pairs, paper.patches.grid, paper.patches.vessel) == (11_750, (3, 3, 2), 32)
    assert (paper.split.train, paper.split.validation, paper.split.test) == (47, 12, 13)
    assert (paper.precision.full, paper.precision.mixed) == ("fp32", "fp16")
    assert (paper.ema, paper.max_bad_steps) == (None, 20)
    assert (paper.dp.noise_multiplier, paper.dp.clip_norm, paper.dp.weight_clip, paper.dp.delta) == (0.3, 1, 0.01, None)
    assert (paper.dp.critic_steps, paper.dp.lr_generator, paper.dp.lr_critic) == (5, 1e-4, 1e-4)


LEVELS = "abcdefghi"  # each of ten of the one before: a billion values in all
BOMB = "x: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise(LEVELS)
)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("title: A test", "title: A test\nabout: &a {<<: *a}", "3:8: YAML: contains itself"),
        ("title: A test", "title: A test\nabout: &a [*a]", "3:8: YAML: contains itself"),
        ("title: A test", "title: A test\nabout: &a {b: {c: *a}}", "3:8: YAML: contains itself"),
        ("filters: 16}", "dp: &a {delta: *a}}", "5:34: YAML: contains itself"),
        ("title: A test", "title: A test\nabout: {<<: 3}", "3:13: YAML: expected a mapping or list of mappings"),
        ("title: A test", f"title: A test\n{BOMB}", "YAML: stands for more than 100000 values"),
        ("title: A test", "title: !!omap [{a: 1}]", "2:8: YAML: a value of the kind omap means nothing here"),
        ("title: A test", "title: !!set {a, b}", "2:8: YAML: a value of the kind set means nothing here"),
        ("title: A test", "title: !!binary aGFsbG8=", "2:8: YAML: a value of the kind binary means nothing here"),
        ("title: A test", "title: !mine {a: 1}", "2:8: YAML: a value of the kind !mine means nothing here"),
        ("title: A test", "title: !!int x", "1:1: YAML: cannot be read (ValueError: invalid literal"),
        ("title: A test", "title: 2024-13-01", "2:8: YAML: a value of the kind timestamp means nothing here"),
        ("title: A test", "title: 2024-12-01", "2:8: YAML: a value of the kind timestamp means nothing here"),
        ("title: A test", 'title: "A \\ud800 test"', "2:8: YAML: the character U+D800 cannot be printed"),
        ("title: A test", 'title: "A \\0 test"', "2:8: YAML: the character U+0000 cannot be printed"),
        ("title: A test", 'title: "A \\e[31m test"', "2:8: YAML: the character U+001B cannot be printed"),
        ("title: A test", 'title: A test\n"a\\0": 1', "3:1: YAML: the character U+0000 cannot be printed"),
        ("title: A test", "title: A test\n1: 2", "3:1: 1: keys should be strings, not 1"),
        ("title: A test", "title: A test\n? [a, b]\n: 2", "3:3: YAML: a key is text or a number"),
        ("title: A test", "title: A test\nnull: 2", "3:1: YAML: a key is text or a number"),
        ("filters: 16", "filters: &yes true", "5:30: profiles.one.filters: input should be a valid integer"),
        ("title: A test", f"title: {'[' * 3000}", "YAML: is nested too deep"),
        ("title: A test", f"title: {'[' * 500}{']' * 500}", "YAML: is nested too deep"),
        ("filters: 16", f"filters: {'9' * 5000}", "YAML:"),
        ("title: A test", "title: A test\nabout: *nowhere", "YAML: found undefined alias"),
        ("seed: [0]", f"seed: [{', '.join(map(str, range(30_000)))}]", "1:1: has 194 KiB, and a protocol at most 128"),
        (
            "seed: [0]",
            f"seed: [{', '.join(map(str, range(1000)))}], filters: [{', '.join(str(8 * n) for n in range(1, 101))}]",
            "6:1: matrix: up to 600002 cells in all profiles, 600002 of them in one; a protocol has at most 100000",
        ),
        ("filters: 16", "split: {train: 9000000}", "profiles.one.split.train: input should be less than or equal to"),
    ],
)
def test_what_nobody_writes_is_told_in_one_line_all_the_same(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in VALID
    started = time.monotonic()
    (line,) = errors_of(tmp_path, VALID.replace(old, new))
    assert line.startswith("tiny.yaml:")
    assert expected in line
    assert time.monotonic() - started < 10


def test_anchors_and_merges_are_for_use(tmp_path: Path) -> None:
    text = VALID.replace("  one: {", "  zero: &zero {filters: 32, ema: 0.9}\n  one: {<<: *zero, ")
    profiles = load_protocol(write(tmp_path, text)).profiles
    assert (profiles["one"].filters, profiles["one"].ema, profiles["one"].patch) == (16, 0.9, (32, 32, 16))
    wrong = text.replace("ema: 0.9", "ema: 9")
    assert len(errors_of(tmp_path, wrong)) == 2, "where it is said, and where it is merged"


def test_the_most_cells_are_counted_and_not_built() -> None:
    for path in PROTOCOLS:
        protocol = load_protocol(path)
        for profile in protocol.profiles.values():
            assert len(cells_of(protocol, profile, has_data=True)) <= most_cells(protocol, profile)
    profile = protocol.profiles[protocol.default_profile]
    matrix = protocol.matrix.model_copy(update={"seed": range(10**6)})
    with pytest.raises(InputError, match="a run has at most 100000"):
        cells_of(protocol, profile.model_copy(update={"matrix": matrix}))
