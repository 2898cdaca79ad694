"""check-data: what it tells of a good dataset, and one line for each way in which a file can be bad."""

import gzip
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from data_trees import AFFINE, SHAPE, image_of, label_of, make_tree, metaimage, nifti
from PIL import Image

from benchmark.datasets.check import DataCheck, check_folder, check_phantom
from benchmark.datasets.suspicions import Suspicions, better_placed
from benchmark.protocol.schema import Phantom, Profile, Split
from benchmark.report.contact_sheet import Tile, draw_tile, write_sheets
from vesselgan.data import LoadedSubject, Subject, phantom_subjects

IMAGE, LABEL = "imagesTr/case_2_0000.nii.gz", "labelsTr/case_2.nii.gz"


def data(tmp_path: Path) -> Path:
    return make_tree("nnunet", tmp_path / "data").folder


def header_changed(path: Path, offset: int, layout: str, *values: float) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)))


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def with_value(value: float) -> np.ndarray:
    image = image_of(1).astype(np.float32)
    image[3, 4, 5] = value
    return image


def shifted() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += 2
    return affine


def four_dimensional(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6, 2), np.float32), AFFINE), path)


def three_classes() -> np.ndarray:
    label = label_of(1).astype(np.uint8)
    label[5, 5:8, 3:6] = 2
    return label


# What is done to which file, and what its one line says.
BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated gzip": (IMAGE, lambda p: p.write_bytes(p.read_bytes()[:-2000]), "truncated"),
    "other content": (IMAGE, lambda p: p.write_text("hello"), "not gzip"),
    "not packed": (IMAGE, lambda p: p.write_bytes(gzip.decompress(p.read_bytes())), "not gzip"),
    "empty file": (IMAGE, lambda p: p.write_bytes(b""), "is empty (0 bytes)"),
    "NaN": (IMAGE, lambda p: nifti(p, with_value(np.nan)), "1 of 7920 voxels are NaN or infinite"),
    "infinity": (IMAGE, lambda p: nifti(p, with_value(np.inf)), "1 of 7920 voxels are NaN or infinite"),
    "constant": (IMAGE, lambda p: nifti(p, np.full(SHAPE, 7, np.int16)), "constant image (every voxel is 7)"),
    "4-D": (IMAGE, four_dimensional, "4-D with shape (4, 5, 6, 2)"),
    "voxel size zero": (IMAGE, lambda p: header_changed(p, 80, "<f", 0.0), "voxel size 0 x 0.6 x 0.7 mm"),
    "voxel size at odds with the affine": (IMAGE, lambda p: header_changed(p, 80, "<f", 1.0), "mm by its affine"),
    "voxel size in metres": (IMAGE, lambda p: nifti(p, image_of(1), np.diag([5e-4, 5e-4, 7e-4, 1])), "is the unit mm"),
    "voxel size of 99 mm": (IMAGE, lambda p: nifti(p, image_of(1), np.diag([99, 99, 99, 1.0])), "outside 0.01 to 20"),
    "singular affine": (IMAGE, lambda p: header_changed(p, 280, "<4f", 0, 0, 0, 0), "affine is singular"),
    "1 kB that claims gigabytes": (
        IMAGE,
        lambda p: (nifti(p, np.zeros((4, 4, 4), np.int16)), header_changed(p, 40, "<4h", 3, 3000, 3000, 3000)),
        "header declares 54000000000 bytes of voxels, too many for a file of",
    ),
    "folder in place of a file": (IMAGE, lambda p: replaced(p, Path.mkdir), "a folder or a device, not a file"),
    "named pipe": (IMAGE, lambda p: replaced(p, os.mkfifo), "a folder or a device, not a file"),
    "link to itself": (IMAGE, lambda p: replaced(p, lambda q: q.symlink_to(q)), "the link leads to itself or nowhere"),
    "link to nothing": (IMAGE, lambda p: replaced(p, lambda q: q.symlink_to("gone")), "leads to itself or nowhere"),
    "the same file twice": (
        IMAGE,
        lambda p: p.write_bytes((p.parent / "case_1_0000.nii.gz").read_bytes()),
        "the same content as",
    ),
    "the same voxels twice": (IMAGE, lambda p: nifti(p, image_of(0).astype(np.int32)), "the same voxels as"),
    "no label": (LABEL, Path.unlink, "no label of subject 'case_2'"),
    "no image": (IMAGE, Path.unlink, "no image of subject 'case_2'"),
    "two files of a kind": (
        IMAGE,
        lambda p: p.with_suffix("").write_bytes(gzip.decompress(p.read_bytes())),
        "subject 'case_2' has",
    ),
    "non-binary label": (LABEL, lambda p: nifti(p, three_classes()), "values 0, 1, 2; a mask holds exactly two"),
    "empty label": (
        LABEL,
        lambda p: nifti(p, np.zeros(SHAPE, bool)),
        "values 0; no voxel is marked",
    ),
    "label of another shape": (LABEL, lambda p: nifti(p, label_of(1)[:-1]), "shape (19, 22, 18), but"),
    "label elsewhere": (LABEL, lambda p: nifti(p, label_of(1), shifted()), "by up to 2 mm"),
    "subject in two splits": (
        LABEL,
        lambda p: (nifti(p.parents[1] / "imagesTs/case_2_0000.nii.gz", image_of(8)),),
        "is in two splits",
    ),
}


def bright_vessels(number: int) -> np.ndarray:
    """A scan whose vessels outshine it."""
    return (image_of(number) // 10 + 400 * label_of(number)).astype(np.int16)


HARDLY_MEANT: dict[str, tuple[Callable[[Path], object], str]] = {
    "inverted label": (lambda p: nifti(p / LABEL, ~label_of(1)), "% of the volume is vessel; is the label inverted?"),
    "mirrored label": (
        lambda p: nifti(p / LABEL, label_of(1)[::-1]),
        "lies on brighter voxels when mirrored along x (contrast ",
    ),
    "label mirrored along two axes": (lambda p: nifti(p / LABEL, label_of(1)[:, ::-1]), "when mirrored along y"),
    "another scan's label": (
        lambda p: (nifti(p / LABEL, label_of(0)), nifti(p / IMAGE, bright_vessels(0) * 3 + image_of(1) // 9)),
        "the same label as",
    ),
    "a scan times two": (
        lambda p: nifti(p / IMAGE, bright_vessels(0) * 2),
        "case_1_0000.nii.gz (subject 'case_1') times 2; drop one",
    ),
    "a scan times three plus seven": (lambda p: nifti(p / IMAGE, bright_vessels(0) * 3 + 7), "times 3 plus 7"),
}


@pytest.mark.parametrize("defect", HARDLY_MEANT)
def test_what_is_hardly_meant_has_its_line(defect: str, tmp_path: Path) -> None:
    folder = data(tmp_path)
    for number in range(4):
        nifti(folder / f"imagesTr/case_{number + 1}_0000.nii.gz", bright_vessels(number))
    assert check_folder(folder, "nnunet", None).all_problems == []
    damage, expected = HARDLY_MEANT[defect]
    damage(folder)
    lines = check_folder(folder, "nnunet", None).all_problems
    assert any(expected in line and "case_2" in line.partition(": ")[0] for line in lines), lines
    assert len(lines) == 1 or "times" in expected, "the label of the rescaled scan is another's, and told, too"


def test_labels_that_were_exchanged_are_both_named(tmp_path: Path) -> None:
    folder = data(tmp_path)
    for number in range(4):
        nifti(folder / f"imagesTr/case_{number + 1}_0000.nii.gz", bright_vessels(number))
    for number, other in ((1, 2), (2, 1)):
        nifti(folder / f"labelsTr/case_{number}.nii.gz", label_of(other - 1))
    lines = [line for line in check_folder(folder, "nnunet", None).all_problems if "is it the label of" in line]
    told = [(line.partition(".nii.gz: ")[0][-6:], line.rpartition(" ")[2]) for line in lines]
    assert told == [("case_1", "'case_2'?"), ("case_2", "'case_1'?")]


def test_no_phantom_has_the_label_of_another() -> None:
    suspicions = Suspicions()
    for subject in phantom_subjects(8, (48, 48, 32), seed=5):
        suspicions.of(Subject(subject.key, Path("i"), Path(f"l{subject.key}"), None), subject)
    assert suspicions.exchanged() == []


def test_a_transposed_label_is_seen() -> None:
    label = np.zeros((12, 12, 9), bool)
    label[2, 3:9, 4] = True
    image = np.random.default_rng(0).normal(0, 1, label.shape).astype(np.float32) + 20 * label
    assert better_placed(image, label) is None
    found = better_placed(image, label.swapaxes(0, 1))
    assert found is not None
    assert found[0] == "turned to the axes y, x, z"


def test_files_that_no_pattern_of_the_layout_names_are_named(tmp_path: Path) -> None:
    folder = data(tmp_path)
    passed = ["imagesTr/c_0001.NII.GZ", "imagesTr/d_0000.mgz", "imagesTr/e (1).nii.gz", "imagesTr/f.hdr"]
    for name in passed:
        (folder / name).write_bytes(b"anything")
    (folder / "imagesTr/._case_1_0000.nii.gz").write_bytes(b"hidden")
    check = check_folder(folder, "nnunet", None)
    assert check.passed_over == passed
    result = command(folder, cwd=tmp_path)
    assert f"passed over, since the layout names no such files: {', '.join(passed)}" in result.stdout


def test_the_voxels_of_a_header_are_not_passed_over(tmp_path: Path) -> None:
    for number in range(2):
        for folder, voxels in (("images", image_of(number)), ("labels", label_of(number).astype(np.uint8))):
            path = tmp_path / folder / f"c{number}.hdr"
            path.parent.mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Pair(voxels, AFFINE), path)
    assert (tmp_path / "images/c0.img").is_file()
    check = check_folder(tmp_path, "auto", None)
    assert (len(check.subjects), check.all_problems, check.passed_over) == (2, [], [])


@pytest.mark.parametrize("defect", BAD)
def test_each_bad_file_has_one_line_that_names_it(defect: str, tmp_path: Path) -> None:
    folder = data(tmp_path)
    name, damage, expected = BAD[defect]
    damage(folder / name)
    (line,) = check_folder(folder, "nnunet", None).all_problems
    assert expected in line
    assert "case_2" in line.partition(": ")[0], "the file comes first"
    assert "\n" not in line


def test_a_bad_metaimage_has_one_line_that_names_it(tmp_path: Path) -> None:
    folder = make_tree("folders", tmp_path).folder
    (folder / "images/b.raw").unlink()
    (line,) = check_folder(folder, "auto", None).all_problems
    assert line.startswith(str(folder / "images/b.raw: no such file"))


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    folder = data(tmp_path)
    (folder / IMAGE).write_text("hello")
    (folder / LABEL).write_text("hello")
    nifti(folder / "labelsTr/case_3.nii.gz", np.zeros(SHAPE, bool))
    (folder / "labelsTr/case_4.nii.gz").unlink()
    seen: list[LoadedSubject] = []
    check = check_folder(folder, "nnunet", None, seen=seen.append)
    assert [line.partition(":")[0].rpartition("/")[2] for line in check.all_problems] == [
        "case_4_0000.nii.gz",
        "case_2_0000.nii.gz",
        "case_2.nii.gz",
        "case_3.nii.gz",
    ]
    assert [each.shape for each in check.subjects] == [SHAPE, None, None]
    assert len(seen) == 1, "what can be read is shown"


def test_a_good_dataset_is_described(tmp_path: Path) -> None:
    check = check_folder(make_tree("topcow", tmp_path).folder, "auto", None)
    assert check.all_problems == []
    assert (check.layout, check.coverage) == ("topcow", "circle of Willis")
    assert "Must provide the source" in check.licence
    first = check.subjects[0]
    assert (first.key, first.shape, first.spacing_mm, first.brain_mask) == (
        "topcow_mr_001",
        SHAPE,
        (0.5, 0.6, 0.7),
        False,
    )
    assert first.vessel_share == pytest.approx(label_of(0).mean())
    assert json.loads(json.dumps(check.as_json(), allow_nan=False))["subjects"][2]["key"] == "topcow_mr_003"


def test_the_embedded_phantom_can_be_checked() -> None:
    profile = Profile(phantom=Phantom(shape=(32, 32, 16)), split=Split(train=1, validation=1, test=1))
    check = check_phantom(profile)
    assert [each.key for each in check.subjects] == ["phantom-000", "phantom-001", "phantom-002"]
    assert all(each.brain_mask and 0 < each.vessel_share < 0.2 for each in check.subjects)
    assert check.all_problems == []


def test_a_tile_shows_the_patient_as_radiologists_look(tmp_path: Path) -> None:
    """Right on the left, front and top above; vessels orange in the lower row."""
    image = np.zeros((40, 40, 40), np.float32)
    label = np.zeros(image.shape, bool)
    corner = (slice(30, 38), slice(30, 38), slice(2, 10))  # right, front, bottom
    image[corner], label[corner] = 100, True
    image[1, 1, 1] = 1
    tile = draw_tile(LoadedSubject("a", image, label, None, np.eye(4), (1.0, 1.0, 1.0)))
    (sheet,) = write_sheets([tile], tmp_path)
    pixels = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    side, gap = 150, 6
    axial, coronal, sagittal = (pixels[gap : gap + side, gap + n * (side + gap) :][:, :side].sum(-1) for n in range(3))
    for picture, row, column in ((axial, 20, 20), (coronal, 125, 20), (sagittal, 125, 20)):
        assert picture[row, column] > 600
        assert picture[side - row, side - column] < 100
    assert tuple(pixels[2 * gap + side + 20, gap + 20]) == (255, 176, 0)


def test_more_subjects_than_a_sheet_holds_get_more_sheets_and_old_ones_go(tmp_path: Path) -> None:
    tiles = [Tile(str(number), Image.new("RGB", (30, 20))) for number in range(13)]
    assert [path.name for path in write_sheets(tiles, tmp_path)] == ["contact-sheet-01.png", "contact-sheet-02.png"]
    assert [path.name for path in write_sheets(tiles[:2], tmp_path)] == ["contact-sheet.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["contact-sheet.png"]
    assert write_sheets([], tmp_path) == []


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmark", "check-data", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_the_command_prints_a_table_and_ends_with_2_where_there_are_problems(tmp_path: Path) -> None:
    folder = data(tmp_path)
    good = command(folder, cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert good.stderr == ""
    for expected in (
        "case_1",
        "20 x 22 x 18",
        "0.5 x 0.6 x 0.7",
        "layout: nnunet",
        "1 images without label passed over",
    ):
        assert expected in good.stdout
    assert (tmp_path / "reports/check-data-data/contact-sheet.png").is_file()
    (folder / IMAGE).write_text("hello")
    bad = command(folder, "--json", cwd=tmp_path)
    assert bad.returncode == 2
    assert len(bad.stderr.splitlines()) == 1
    assert json.loads(bad.stdout)["problems"] == [bad.stderr.strip().removeprefix("error: ")]


def test_a_folder_that_cannot_be_checked_is_refused_in_one_line(tmp_path: Path) -> None:
    for arguments in (("nowhere",), (tmp_path,), (tmp_path, "--layout", "dicom")):
        result = command(*arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1
        assert "Traceback" not in result.stderr


def test_only_one_volume_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    import benchmark.datasets.check as checking

    real, alive, most = checking.examine_subject, [], 0

    def watched(*arguments: object, **options: object) -> object:
        nonlocal most
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
        loaded, problems = real(*arguments, **options)
        alive.append(weakref.ref(loaded))
        return loaded, problems

    monkeypatch.setattr(checking, "examine_subject", watched)
    check: DataCheck = check_folder(data(tmp_path), "nnunet", None)
    assert len(check.subjects) == 4
    assert most <= 1, "the last one, while the next is read"


def test_a_metaimage_dataset_is_recognised(tmp_path: Path) -> None:
    for number in range(3):
        metaimage(tmp_path / f"imagesTr/c{number}_0000.mha", image_of(number))
        metaimage(tmp_path / f"labelsTr/c{number}.mha", label_of(number).astype(np.int16))
    check = check_folder(tmp_path, "auto", None)
    assert check.all_problems == []
    assert check.layout == "nnunet"
