"""The volume store: what goes in comes out, once on disk, in the same bytes."""

import math
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vesselgan.data.store as store_module
from vesselgan.data import LoadedSubject, apply_range, cut, minmax_scale, open_store, robust_range, write_store
from vesselgan.errors import InputError

PATCH = (8, 8, 4)
SPLITS = {"train": ["a", "c"], "test": ["b"]}


def subject(key: str, seed: int, shape=(16, 12, 9)) -> LoadedSubject:
    rng = np.random.default_rng(seed)
    return LoadedSubject(
        key,
        image=rng.integers(1, 900, size=shape).astype(np.float32),
        label=rng.random(shape) < 0.1,
        mask=rng.random(shape) < 0.5 if key != "b" else None,
        affine=np.diag([0.5, 0.5, 0.7, 1.0]),
        spacing_mm=(0.5, 0.5, 0.7),
    )


@pytest.fixture
def subjects() -> list[LoadedSubject]:
    return [subject("a", 0), subject("b", 1, (10, 14, 8)), subject("c", 2)]


def write(folder: Path, subjects, splits=SPLITS, seed=0) -> Path:
    rng = np.random.default_rng(seed)
    write_store(folder, iter(subjects), splits=splits, patch_size=PATCH, grid=(2, 2, 2), vessel=3, rng=rng)
    return folder


def test_volumes_and_table_come_back_as_they_went_in(tmp_path, subjects):
    store = open_store(write(tmp_path / "store", subjects))
    assert [stored.key for stored in store.subjects] == ["a", "b", "c"]
    assert store.keys("train") == ["a", "c"]
    for given, stored in zip(subjects, store.subjects, strict=True):
        np.testing.assert_array_equal(store.image(given.key), given.image)
        np.testing.assert_array_equal(store.label(given.key), given.label)
        assert stored.shape == given.image.shape
        assert stored.spacing_mm == given.spacing_mm
        np.testing.assert_array_equal(stored.affine, given.affine)
        assert stored.intensity_range == robust_range(given.image)
        if given.mask is None:
            assert store.mask(given.key) is None
        else:
            np.testing.assert_array_equal(store.mask(given.key), given.mask)
    with pytest.raises(KeyError):
        store.subject("d")


def test_volumes_are_mapped_read_only_and_small_where_that_loses_nothing(tmp_path, subjects):
    fractional = replace(subjects[0], image=subjects[0].image + np.float32(0.5))
    store = open_store(write(tmp_path, [fractional, *subjects[1:]]))
    assert isinstance(store.image("a"), np.memmap)
    assert store.image("a").dtype == np.float32
    assert store.image("b").dtype == np.int16
    with pytest.raises(ValueError, match="read-only"):
        store.image("a")[0, 0, 0] = 1


def test_patches_belong_to_the_subjects_of_their_split(tmp_path, subjects):
    store = open_store(write(tmp_path, subjects))
    assert len(store.patches("train")) == 2 * (8 + 3)
    assert len(store.patches("test")) == 8 + 3
    assert set(store.patch_table[store.patches("test"), 0]) == {1}
    assert len(store.patches("validation")) == 0


@pytest.mark.parametrize("scaling", ["patch", "volume"])
def test_a_place_of_ones_own_gives_what_the_table_would_give(tmp_path, subjects, scaling):
    store = open_store(write(tmp_path, subjects))
    rows = np.arange(len(store.patch_table))
    for own, listed in zip(store.cut_at(store.patch_table, scaling), store.cut_pairs(rows, scaling), strict=True):
        np.testing.assert_array_equal(own, listed)


def test_pairs_are_cut_from_image_and_label_at_the_same_place(tmp_path, subjects):
    store = open_store(write(tmp_path, subjects))
    indices = [0, 9, 21, 12]
    for scaling in ("patch", "volume"):
        images, labels = store.cut_pairs(indices, scaling)
        assert images.shape == labels.shape == (4, *PATCH)
        assert (images.dtype, labels.dtype) == (np.float32, np.uint8)
        assert images.min() >= -1
        assert images.max() <= 1
        for label, index in zip(labels, indices, strict=True):
            which, *corner = store.patch_table[index]
            np.testing.assert_array_equal(label, cut(subjects[which].label, corner, PATCH))


def test_scaling_by_patch_and_by_volume_differ_as_named(tmp_path, subjects):
    store = open_store(write(tmp_path, subjects))
    by_patch, _ = store.cut_pairs(range(11), "patch")
    assert all(image.min() == -1 and image.max() == 1 for image in by_patch)
    by_volume, _ = store.cut_pairs(range(8), "volume")  # the grid: no overhang
    low, high = store.subjects[0].intensity_range
    for image, (_, *corner) in zip(by_volume, store.patch_table, strict=False):
        expected = np.clip((cut(subjects[0].image, corner, PATCH) - low) * 2 / (high - low) - 1, -1, 1)
        np.testing.assert_allclose(image, expected, atol=1e-5)
    with pytest.raises(ValueError, match="scaling"):
        store.cut_pairs([0], "slice")


def test_overhang_scaled_by_volume_is_the_darkest_value(tmp_path, subjects):
    corner_only = np.zeros_like(subjects[0].label)
    corner_only[0, 0, 0] = True
    shifted = replace(subjects[0], image=subjects[0].image - 2000, label=corner_only)  # 0 would be the brightest
    store = open_store(write(tmp_path, [shifted], {"train": ["a"]}))
    images, labels = store.cut_pairs([8], "volume")
    assert (images[0, :4] == -1).all()
    assert labels[0, 4, 4, 2] == 1


def test_overhang_scaled_by_patch_is_zero_or_where_intensities_are_negative_the_darkest_value(tmp_path, subjects):
    corner_only = np.zeros_like(subjects[0].label)
    corner_only[0, 0, 0] = True
    for shift in (0, -2000):
        moved = replace(subjects[0], image=subjects[0].image + shift, label=corner_only)
        store = open_store(write(tmp_path / str(shift), [moved], {"train": ["a"]}))
        images, _ = store.cut_pairs([8], "patch")
        assert (images[0, :4] == -1).all()
        assert images.max() == 1


def test_equal_input_gives_equal_bytes(tmp_path, subjects):
    first, again = write(tmp_path / "1", subjects), write(tmp_path / "2", subjects)
    names, names_again = (
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in (first, again)
    )
    assert names == names_again
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in names)
    other = write(tmp_path / "3", subjects, seed=1)
    assert (first / "patches.npy").read_bytes() != (other / "patches.npy").read_bytes()


def test_no_subject_stays_in_memory_while_the_next_is_made(tmp_path):
    """Neither in the store's writer nor in the stage's generators, real sizes being gigabytes."""
    alive = []

    def one_by_one():
        for seed, key in enumerate("abc"):
            assert not [reference for reference in alive if reference() is not None]
            yield remembered(subject(key, seed))

    def remembered(made):
        alive.append(weakref.ref(made))
        return made

    write(tmp_path, one_by_one(), {"train": ["a", "b"], "test": ["c"]})
    assert len(alive) == 3


def test_preparing_more_subjects_takes_no_more_memory(tmp_path):
    shape, patch = (80, 80, 40), (32, 32, 16)

    def peak_bytes(count):
        keys = [f"s{number}" for number in range(count)]
        tracemalloc.start()
        subjects = (subject(key, seed, shape) for seed, key in enumerate(keys))
        rng = np.random.default_rng(0)
        write_store(
            tmp_path / str(count), subjects, splits={"train": keys}, patch_size=patch, grid=None, vessel=4, rng=rng
        )
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    few, many = peak_bytes(2), peak_bytes(6)
    assert many < 1.05 * few + 100_000


def test_each_patch_has_its_range_in_the_table(tmp_path, subjects):
    store = open_store(write(tmp_path, subjects))
    for (low, high), (which, *corner) in zip(store.patch_ranges, store.patch_table, strict=True):
        patch = cut(subjects[which].image, corner, PATCH)
        assert (low, high) == (patch.min(), patch.max())


def test_channels_are_the_pairs_with_the_label_on_the_scale_asked_for(tmp_path, subjects):
    store = open_store(write(tmp_path, subjects))
    indices = list(range(len(store.patch_table)))
    for scaling in ("patch", "volume"):
        images, labels = store.cut_pairs(indices, scaling)
        for low in (0.0, -1.0):
            pairs = store.cut_channels(indices, scaling, label_low=low)
            np.testing.assert_array_equal(pairs[:, 0], images)
            np.testing.assert_array_equal(pairs[:, 1], np.where(labels, 1, low))
        for image, (which, *corner) in zip(images, store.patch_table, strict=True):
            stored = store.subjects[which]
            low, high = stored.intensity_range
            expected = (
                minmax_scale(cut(subjects[which].image, corner, PATCH))
                if scaling == "patch"
                else apply_range(cut(subjects[which].image, corner, PATCH, fill=math.floor(low)), low, high)
            )
            np.testing.assert_array_equal(image, expected)


def test_large_patches_are_cut_slab_by_slab_to_the_same_values(tmp_path, subjects, monkeypatch):
    store = open_store(write(tmp_path, subjects))
    whole = store.cut_channels(range(11), "volume")
    monkeypatch.setattr(store_module, "_VOXELS_AT_ONCE", 3 * PATCH[1] * PATCH[2])
    np.testing.assert_array_equal(store.cut_channels(range(11), "volume"), whole)


def test_equal_volumes_are_kept_once_and_one_scan_in_two_splits_is_refused(tmp_path, subjects):
    twin = replace(subjects[0], key="c", label=subjects[2].label)
    store = open_store(write(tmp_path / "twice", [*subjects[:2], twin]))
    assert store.subject("a").image == store.subject("c").image
    assert len(list(tmp_path.glob("twice/volumes/*.npy"))) == 2 + 3 + 1  # images, labels, one mask
    copy = replace(subjects[0], key="b")
    with pytest.raises(InputError, match=r"'a' \(train\) and 'b' \(test\) have the same image"):
        write(tmp_path / "leak", [subjects[0], copy, subjects[2]])


def test_subjects_are_taken_one_at_a_time_and_those_in_no_split_are_skipped(tmp_path, subjects):
    written_before = []

    def one_by_one():
        for given in subjects:
            written_before.append(len(list(tmp_path.glob("volumes/*.npy"))))
            yield given

    write(tmp_path, one_by_one(), {"train": ["a"], "test": ["c"]})
    assert written_before == [0, 3, 3]  # image, label and mask
    assert [stored.key for stored in open_store(tmp_path).subjects] == ["a", "c"]


@pytest.mark.parametrize(
    ("given", "splits", "message"),
    [
        ("ab", {"train": ["a"], "test": ["b", "z"]}, "'z' of split 'test' is not among the data"),
        ("ab", {"train": ["a", "b"], "test": ["b"]}, "'b' is in two splits"),
        ("aa", {"train": ["a"]}, "'a' comes twice"),
    ],
)
def test_subjects_and_splits_must_fit(tmp_path, given, splits, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, [subject(key, ord(key)) for key in given], splits)


def test_an_unfinished_or_foreign_store_is_refused(tmp_path, subjects):
    with pytest.raises(InputError, match="no finished volume store"):
        open_store(tmp_path)
    write(tmp_path, subjects)
    table = tmp_path / "store.json"
    table.write_text(table.read_text().replace('"format": 2', '"format": 0'))
    with pytest.raises(InputError, match="format 0"):
        open_store(tmp_path)
