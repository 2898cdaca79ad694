"""What is made of a scan lies as the scan does in its file."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from data_trees import AFFINE, SHAPE, image_of, label_of, metaimage

from benchmark.artifacts.error_maps import save_maps
from vesselgan.data import Layout, find_subjects, load_subject, load_volume, open_store, save_volume, write_store

nib: Any = nibabel


def stored(folder: Path, **reading: Any) -> Any:
    subjects = find_subjects(folder, Layout("here", ("{key}_scan.nii.gz", "{key}_scan.mha"), ("{key}_label.nii.gz",)))
    write_store(
        folder / "store",
        (load_subject(subject, **reading) for subject in subjects),
        splits={"test": ["a"]},
        patch_size=(8, 8, 8),
        grid=None,
        vessel=1,
        rng=np.random.default_rng(0),
    )
    return open_store(folder / "store")


def scan(path: Path, affine: Any, codes: tuple[int, int]) -> Any:
    image = nib.Nifti1Image(image_of(0), affine)
    image.set_qform(affine, code=codes[0])
    image.set_sform(affine, code=codes[1])
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"John Doe"
    nib.save(image, path)
    return image


@pytest.mark.parametrize("codes", [(1, 1), (0, 0), (4, 2)])
@pytest.mark.parametrize("axes", [[0, 1, 2, 3], [2, 0, 1, 3]])
def test_error_maps_have_the_scans_order_of_voxels_its_forms_and_codes(
    axes: list[int], codes: tuple[int, int], tmp_path: Path
) -> None:
    affine = (AFFINE @ np.diag([-1, 1, -1, 1]))[:, axes]
    image = scan(tmp_path / "a_scan.nii.gz", affine, codes)
    save_volume(tmp_path / "a_label.nii.gz", label_of(0), image.affine, placed_as=tmp_path / "a_scan.nii.gz")
    store = stored(tmp_path)
    subject, truth = store.subject("a"), np.asarray(store.label("a"))
    prediction = np.roll(truth, 2, axis=0)
    save_maps(tmp_path, "a", truth, prediction, np.asarray(subject.affine), subject.spacing_mm, store.placement("a"))
    for kind in ("predictions", "errors", "distances"):
        made = nib.load(tmp_path / kind / "a.nii.gz")
        assert made.shape == SHAPE
        np.testing.assert_array_equal(made.affine, image.affine)
        assert [int(made.header[name]) for name in ("qform_code", "sform_code")] == list(codes)
    errors = np.asarray(nib.load(tmp_path / "errors/a.nii.gz").dataobj)
    np.testing.assert_array_equal((errors == 1) | (errors == 2), label_of(0))  # found and missed are the label
    np.testing.assert_array_equal(load_volume(tmp_path / "predictions/a.nii.gz").data, prediction)
    assert b"John" not in store.placement("a").read_bytes()


def test_a_scan_of_another_format_gives_its_order_of_voxels_alone(tmp_path: Path) -> None:
    affine = AFFINE @ np.diag([-1, 1, 1, 1])
    metaimage(tmp_path / "a_scan.mha", image_of(0), affine)
    save_volume(tmp_path / "a_label.nii.gz", label_of(0), affine)
    store = stored(tmp_path)
    subject, truth = store.subject("a"), np.asarray(store.label("a"))
    save_maps(tmp_path, "a", truth, truth, np.asarray(subject.affine), subject.spacing_mm, store.placement("a"))
    made = nib.load(tmp_path / "predictions/a.nii.gz")
    np.testing.assert_allclose(made.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(made.dataobj), label_of(0))


def test_resampled_voxels_are_no_files(tmp_path: Path) -> None:
    scan(tmp_path / "a_scan.nii.gz", AFFINE, (1, 1))
    save_volume(tmp_path / "a_label.nii.gz", label_of(0), AFFINE)
    store = stored(tmp_path, spacing_mm=(0.7, 0.7, 0.7))
    assert store.placement("a") is None
    assert "placement" not in (tmp_path / "store/store.json").read_text()
