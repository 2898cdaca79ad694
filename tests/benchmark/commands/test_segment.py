"""`segment`: a trained network on scans of any size and orientation."""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from data_trees import metaimage
from numpy.typing import NDArray
from run_folders import make_run
from safetensors.torch import load_file, save_file

from benchmark import cli
from benchmark.artifacts.store import Spec
from benchmark.stages.train_unet import scaled
from benchmark.trained.segmenter import find_unet, open_segmenter, output_names
from vesselgan.data import load_volume, robust_range
from vesselgan.errors import InputError
from vesselgan.inference import segment_volume
from vesselgan.networks import UNet
from vesselgan.training import choose_precision

FACTS = {
    "filters": [4, 8],
    "dropout": 0.1,
    "precision": "fp32",
    "patch": [16, 16, 8],
    "intensity_scaling": "volume",
    "spacing_mm": [0.5, 0.5, 0.8],
    "trained_on": "3 real patches",
}
RAS = np.diag([0.5, 0.5, 0.8, 1.0])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A `train_unet` folder whose network answers differently everywhere."""
    torch.manual_seed(0)
    net = UNet(filters=(4, 8))
    with torch.no_grad():
        for _ in range(10):
            net.train()(torch.randn(2, 1, 16, 16, 8))
        net.output.weight.mul_(4)
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(net.state_dict(), folder / "unet.safetensors")
    (folder / "unet.json").write_text(json.dumps(FACTS))
    return folder


def write(path: Path, data: NDArray[np.float32], affine: NDArray[np.float64] = RAS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def scan(shape: tuple[int, int, int] = (21, 18, 9)) -> NDArray[np.float32]:
    return np.random.default_rng(1).gamma(2, 100, shape).astype(np.float32)


def segment(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The command in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["benchmark", "segment", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_the_mask_is_what_the_network_says_of_the_scaled_volume(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write(tmp_path / "scan.nii.gz", scan())
    assert segment(monkeypatch, model, image, "--out", tmp_path / "out", "--probability") == 0
    net = open_segmenter(model, "cpu", overlap=0.5, batch=4).unet
    data = scaled(scan(), robust_range(scan()), "volume")
    expected = segment_volume(net, data, (16, 16, 8), precision=choose_precision("fp32", "cpu"))
    np.testing.assert_array_equal(load_volume(tmp_path / "out/scan_probability.nii.gz").data, expected)
    vessels = nibabel.load(tmp_path / "out/scan_vessels.nii.gz")
    np.testing.assert_array_equal(vessels.dataobj, expected > 0.5)
    assert 0 < (expected > 0.5).mean() < 1
    assert vessels.get_data_dtype() == np.uint8


def test_the_mask_begins_at_the_networks_own_threshold(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "unet.json").write_text(json.dumps(FACTS | {"threshold": 0.4}))
    image = write(tmp_path / "scan.nii.gz", scan())
    assert segment(monkeypatch, model, image, "--out", tmp_path / "out", "--probability") == 0
    probability = load_volume(tmp_path / "out/scan_probability.nii.gz").data
    vessels = load_volume(tmp_path / "out/scan_vessels.nii.gz").data > 0
    np.testing.assert_array_equal(vessels, probability > 0.4)
    assert (vessels != (probability > 0.5)).any()


@pytest.mark.parametrize("axes", ["LPS", "SAR", "PIR"])
def test_results_lie_on_the_files_own_grid_whatever_its_orientation(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: str
) -> None:
    upright = nibabel.Nifti1Image(scan(), RAS)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(RAS), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    turned = upright.as_reoriented(turn)
    images = [write(tmp_path / "a.nii.gz", scan()), tmp_path / "b.nii.gz"]
    nibabel.save(turned, images[1])
    assert segment(monkeypatch, model, *images, "--out", tmp_path / "out") == 0
    result = nibabel.load(tmp_path / "out/b_vessels.nii.gz")
    assert result.shape == turned.shape
    np.testing.assert_allclose(result.affine, turned.affine, atol=1e-5)
    np.testing.assert_array_equal(
        load_volume(tmp_path / "out/a_vessels.nii.gz").data, load_volume(tmp_path / "out/b_vessels.nii.gz").data
    )


def test_another_spacing_is_warned_of_and_resampling_keeps_the_grid(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    affine = np.diag([0.25, 0.5, 1.6, 1.0])
    image = write(tmp_path / "fine.nii.gz", scan((40, 18, 5)), affine)
    assert segment(monkeypatch, model, image, "--out", tmp_path / "plain", "--probability") == 0
    warning = capsys.readouterr().err
    assert "voxels of 0.25 x 0.5 x 1.6 mm, but the network learned from 0.5 x 0.5 x 0.8 mm" in warning
    assert "--resample" in warning
    assert segment(monkeypatch, model, image, "--out", tmp_path / "bridged", "--resample", "--probability") == 0
    assert capsys.readouterr().err == ""
    plain, bridged = (nibabel.load(tmp_path / name / "fine_probability.nii.gz") for name in ("plain", "bridged"))
    assert bridged.shape == (40, 18, 5)
    np.testing.assert_allclose(bridged.affine, affine, atol=1e-6)
    assert not np.allclose(plain.get_fdata(), bridged.get_fdata(), atol=1e-3)


def test_every_bad_file_has_its_line_and_nothing_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.nii.gz", scan())
    flat = write(tmp_path / "flat.nii.gz", np.ones((8, 8, 8), np.float32))
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(good.read_bytes()[:-2000])
    arguments = (model, good, flat, damaged, tmp_path / "none.nii.gz", "--out", tmp_path / "out")
    assert segment(monkeypatch, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True] * 3
    assert "constant image" in lines[0]
    assert "truncated or damaged" in lines[1]
    assert "no such file" in lines[2]
    assert not (tmp_path / "out").exists()


def test_no_result_is_overwritten(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [write(tmp_path / patient / "001_img.nii.gz", scan()) for patient in ("p1", "p2")]
    assert segment(monkeypatch, model, *images, "--out", tmp_path / "out") == 0
    names = {"p1_001_img_vessels.nii.gz", "p2_001_img_vessels.nii.gz"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert segment(monkeypatch, model, *images, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("exists already") == 2
    assert segment(monkeypatch, model, images[0], images[0], "--out", tmp_path / "other") == 2
    assert "given twice" in capsys.readouterr().err


def test_names_that_no_folder_tells_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rename one"):
        output_names([tmp_path / "a.nii", tmp_path / "a.nii.gz"])
    names = output_names([tmp_path / "x/a_b.nii", tmp_path / "x_a/b.nii", tmp_path / "y/b.nii"])
    assert sorted(names.values()) == ["a_b", "x_a_b", "y_b"]


@pytest.mark.parametrize("missing", ["spacing_mm", "patch"])
def test_a_network_of_an_earlier_version_says_what_it_lacks(model: Path, missing: str) -> None:
    (model / "unet.json").write_text(json.dumps({name: FACTS[name] for name in FACTS if name != missing}))
    with pytest.raises(InputError, match=rf"unet\.json: lacks {missing} \(an earlier version's\); train it again"):
        open_segmenter(model, "cpu", overlap=0.5, batch=4)


def test_weights_of_another_network_are_refused_in_one_line(model: Path) -> None:
    (model / "unet.json").write_text(json.dumps(FACTS | {"filters": [4, 16]}))
    with pytest.raises(InputError, match=r"unet\.safetensors: does not fit") as caught:
        open_segmenter(model, "cpu", overlap=0.5, batch=4)
    assert "\n" not in str(caught.value)
    (model / "unet.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"unet\.safetensors: does not fit"):
        open_segmenter(model, "cpu", overlap=0.5, batch=4)


def test_a_run_of_several_networks_lists_them_and_takes_a_cell(tmp_path: Path) -> None:
    make_run(tmp_path, {"real_s0": {"unet": {}}, "SN_s0": {"unet": {}}, "GP_s0": {"unet": "stopped"}})
    runs, key = tmp_path / "runs", Spec("unet", 1, {"cell": "SN_s0"}).key
    (runs / "stages" / key / "unet.safetensors").touch()
    run = str(runs / "r-p")
    with pytest.raises(InputError, match=r"has 2 U-Nets; choose one with --cell: real_s0, SN_s0$"):
        find_unet(run, runs=runs, cell=None)
    assert find_unet(run, runs=Path("elsewhere"), cell="SN_s0").name == key
    weights = find_unet("r-p", runs=runs, cell="SN_s0") / "unet.safetensors"
    assert find_unet(str(weights), runs=runs, cell=None) == weights.parent
    with pytest.raises(InputError, match=r"--cell SNN_s0: no such U-Net, did you mean 'SN_s0'\?"):
        find_unet(run, runs=runs, cell="SNN_s0")
    with pytest.raises(InputError, match="--cell GP_s0: its U-Net is not finished: run the protocol again"):
        find_unet(run, runs=runs, cell="GP_s0")
    with pytest.raises(InputError, match=r"no U-Net there \(unet\.safetensors"):
        find_unet(str(tmp_path), runs=runs, cell=None)
    with pytest.raises(InputError, match=r"is no run; leave it out, or name one of .*runs \(r-p; --runs"):
        find_unet(str(weights), runs=runs, cell="SN_s0")
    with pytest.raises(InputError, match=r"none: neither a U-Net's file, a folder, nor a run of .*runs \(r-p; --runs"):
        find_unet("none", runs=runs, cell=None)


def test_scans_of_every_format_get_the_mask_of_the_same_nifti(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.round(scan()).astype(np.int16)
    affine = np.diag([-0.5, 0.5, 0.8, 1.0])
    write(tmp_path / "scans/a.nii", data, affine)
    metaimage(tmp_path / "scans/b.mha", data, affine)
    write(tmp_path / "scans/c.nii", data[..., None], affine)
    (tmp_path / "scans/c.nii").rename(tmp_path / "scans/c.NII")
    assert segment(monkeypatch, model, tmp_path / "scans", "--out", tmp_path / "out") == 0
    expected = nibabel.load(tmp_path / "out/a_vessels.nii.gz")
    for name in "bc":
        mask = nibabel.load(tmp_path / f"out/{name}_vessels.nii.gz")
        np.testing.assert_array_equal(mask.dataobj, expected.dataobj)
        np.testing.assert_allclose(mask.affine, expected.affine, atol=1e-5)


def test_a_scan_of_nnunets_gives_a_mask_of_its_cases_name_and_further_channels_are_no_scans(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channel in range(2):
        write(tmp_path / f"imagesTs/cow_001_000{channel}.nii.gz", scan())
    assert segment(monkeypatch, model, tmp_path / "imagesTs", "--out", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cow_001_vessels.nii.gz"]


def test_a_mask_lies_where_its_scan_lies_for_every_reader(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, codes in (("none", (0, 0)), ("aligned", (2, 0)), ("both", (1, 4))):
        image = nibabel.Nifti1Image(scan(), np.diag([-0.5, 0.5, 0.8, 1.0]))
        image.set_qform(image.affine, code=codes[0])
        image.set_sform(image.affine, code=codes[1])
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
        assert segment(monkeypatch, model, tmp_path / f"{name}.nii.gz", "--out", tmp_path / "out") == 0
        made = nibabel.load(tmp_path / f"out/{name}_vessels.nii.gz")
        given = nibabel.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(made.affine, given.affine)
        assert [int(made.header[key]) for key in ("qform_code", "sform_code")] == list(codes)


def test_a_network_that_diverged_is_refused(model: Path, tmp_path: Path) -> None:
    weights = load_file(model / "unet.safetensors")
    weights["output.bias"].fill_(float("nan"))
    save_file(weights, model / "unet.safetensors")
    with pytest.raises(InputError, match=r"unet.safetensors: output.bias holds NaN or infinity"):
        open_segmenter(model, "cpu", overlap=0.5, batch=4)


def test_nan_voxels_become_what_is_asked_for(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = scan()
    image[0] = np.nan
    path = write(tmp_path / "nan.nii.gz", image)
    assert segment(monkeypatch, model, path, "--out", tmp_path / "refused") == 2
    assert segment(monkeypatch, model, path, "--out", tmp_path / "out", "--nan", "0") == 0
    plain = write(tmp_path / "plain.nii.gz", np.nan_to_num(image))
    assert segment(monkeypatch, model, plain, "--out", tmp_path / "out") == 0
    masks = [nibabel.load(tmp_path / f"out/{name}_vessels.nii.gz").dataobj for name in ("nan", "plain")]
    np.testing.assert_array_equal(*masks)
