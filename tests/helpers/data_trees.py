"""Miniature datasets, one in each shipped layout, of phantoms whose labels are known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from vesselgan.data import save_volume

SHAPE = (20, 22, 18)
AFFINE = np.diag([0.5, 0.6, 0.7, 1.0])
AFFINE[:3, 3] = -4, -5, -6


@dataclass
class Tree:
    """A dataset on disk and what it should load as."""

    folder: Path
    labels: dict[str, NDArray[np.bool_]] = field(default_factory=dict)  # by key
    splits: dict[str, list[str]] = field(default_factory=dict)  # as the dataset gives them
    unlabelled: int = 0


def image_of(number: int) -> NDArray[np.int16]:
    return np.random.default_rng(number).integers(0, 900, SHAPE).astype(np.int16)


def label_of(number: int) -> NDArray[np.bool_]:
    """Every subject has another vessel, along z."""
    label = np.zeros(SHAPE, dtype=bool)
    label[4 + number : 7 + number, 5:8, 2:-2] = True
    return label


def nifti(path: Path, data: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".gz"):
        save_volume(path, data, affine)
    else:
        nibabel.save(nibabel.Nifti1Image(data.astype(np.uint8), affine), path)
    return path


def metaimage(path: Path, data: NDArray[np.int16], affine: NDArray[np.float64] = AFFINE) -> Path:
    """An uncompressed .mha or .mhd with the header that ITK writes; its world is LPS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = (lps[:3, :3] / spacing).T  # the file lists one axis after the other
    raw = path.with_suffix(".raw")
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"TransformMatrix = {' '.join(f'{value:g}' for value in directions.ravel())}\n"
        f"Offset = {' '.join(f'{value:g}' for value in lps[:3, 3])}\n"
        f"CenterOfRotation = 0 0 0\nElementSpacing = {' '.join(f'{value:g}' for value in spacing)}\n"
        f"DimSize = {' '.join(map(str, data.shape))}\nElementType = MET_SHORT\n"
        f"ElementDataFile = {'LOCAL' if path.suffix == '.mha' else raw.name}\n"
    )
    voxels = data.astype("<i2").tobytes(order="F")
    path.write_bytes(header.encode() + (voxels if path.suffix == ".mha" else b""))
    if path.suffix == ".mhd":
        raw.write_bytes(voxels)
    return path


def tubes(path: Path, points: NDArray[np.float64], radii: NDArray[np.float64], **fields: object) -> Path:
    """One vessel as TubeTK writes it: 25 columns, of which position and radius come first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = "x y z r rn mn bn mk v1x v1y v1z v2x v2y v2z tx ty tz a1 a2 a3 red green blue alpha id"
    header = {
        "ID": 1, "ParentID": -1, "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
        "CenterOfRotation": "0 0 0", "ElementSpacing": "1 1 1", **fields,
    }  # fmt: skip
    rows = [f"{x:.6f} {y:.6f} {z:.6f} {r:.6f} " + "0 " * 21 for (x, y, z), r in zip(points, radii, strict=True)]
    path.write_text(
        "ObjectType = Scene\nNDims = 3\nNObjects = 1\nObjectType = Tube\nObjectSubType = Vessel\nNDims = 3\n"
        + "".join(f"{name} = {value}\n" for name, value in header.items())
        + f"PointDim = {columns}\nNPoints = {len(rows)}\nPoints =\n"
        + "\n".join(rows)
        + "\n"
    )
    return path


def pegasus(tree: Tree) -> None:
    for number, (split, key) in enumerate(
        [("train", "P1"), ("train", "P2"), ("train", "P5"), ("val", "P3"), ("test", "P4")]
    ):
        home = tree.folder / split / key
        nifti(home / "001_img_denoised.nii.gz", image_of(number))
        nifti(home / "001_Vessel-Manual-Gold-int.nii", label_of(number))
        nifti(home / "001_BET-fsl.mask.nii.gz", np.pad(np.ones((10, 12, 8), bool), 5))
        tree.labels[key] = label_of(number)
    tree.splits = {"validation": ["P3"], "test": ["P4"]}


def nnunet(tree: Tree) -> None:
    for number, key in enumerate(("case_1", "case_2", "case_3", "case_4")):
        nifti(tree.folder / f"imagesTr/{key}_0000.nii.gz", image_of(number))
        nifti(tree.folder / f"labelsTr/{key}.nii.gz", label_of(number))
        tree.labels[key] = label_of(number)
    nifti(tree.folder / "imagesTs/case_9_0000.nii.gz", image_of(9))  # whose label the challenge keeps
    (tree.folder / "dataset.json").write_text("{}")
    tree.unlabelled = 1


def folders(tree: Tree) -> None:
    for number, key in enumerate(("a", "b", "c")):
        metaimage(tree.folder / f"images/{key}.mhd", image_of(number))
        nifti(tree.folder / f"labels/{key}.nii.gz", label_of(number))
        tree.labels[key] = label_of(number)


def ixi(tree: Tree) -> None:
    for number, key in enumerate(("IXI057", "IXI120", "IXI200", "IXI365")):
        nifti(tree.folder / f"images/{key}-HH-{1500 + number}-MRA.nii.gz", image_of(number))
        if key != "IXI120":
            nifti(tree.folder / f"labels/{key}-HH-{1500 + number}-MRA_label.nii.gz", label_of(number))
            tree.labels[key] = label_of(number)
    tree.unlabelled = 1


def costa(tree: Tree) -> None:
    for number, (part, key) in enumerate(
        [("Tr", "IXI012-HH"), ("Tr", "ICBM_1"), ("Tr", "ADAM_3"), ("Tr", "IXI012-HH_2"), ("Ts", "LocH1_7")]
    ):
        nifti(tree.folder / f"images{part}/{key}.nii.gz", image_of(number))
        nifti(tree.folder / f"labels{part}/{key}.nii.gz", label_of(number))
        tree.labels[key] = label_of(number)
    tree.splits = {"test": ["LocH1_7"]}


def msd(tree: Tree) -> None:
    for number, (part, key) in enumerate([("Tr", "IXI012"), ("Tr", "b_2"), ("Tr", "case_0000"), ("Ts", "d")]):
        nifti(tree.folder / f"images{part}/{key}.nii.gz", image_of(number))
        nifti(tree.folder / f"labels{part}/{key}.nii.gz", label_of(number))
        tree.labels[key] = label_of(number)
    (tree.folder / "imagesTr/._b_2.nii.gz").write_bytes(b"left behind by a file manager")
    tree.splits = {"test": ["d"]}


def bids(tree: Tree) -> None:
    """The first two subjects as `synthesise --format bids` names them, the others with sessions."""
    for number, (home, key) in enumerate(
        [
            ("sub-syn1", "sub-syn1"),
            ("sub-syn2", "sub-syn2"),
            ("sub-3/ses-a", "sub-3_ses-a"),
            ("sub-3/ses-b", "sub-3_ses-b_acq-tof_run-1"),
            ("sub-4/ses-a", "sub-4_ses-a"),
        ]
    ):
        nifti(tree.folder / f"{home}/anat/{key}_angio.nii.gz", image_of(number))
        nifti(tree.folder / f"{home}/anat/{key}_T1w.nii.gz", image_of(number + 20))
        word = "vessel" if number < 2 else "vessels"
        nifti(tree.folder / f"derivatives/labels/{home}/anat/{key}_desc-{word}_mask.nii.gz", label_of(number))
        tree.labels[key] = label_of(number)
    nifti(tree.folder / "sub-5/anat/sub-5_angio.nii.gz", image_of(9))
    tree.unlabelled = 1


def topbrain(tree: Tree) -> None:
    for number, key in enumerate(("topcow_mr_001", "topcow_mr_002", "topcow_mr_003")):
        classes = label_of(number).astype(np.uint8)
        classes[..., : SHAPE[2] // 2] *= 42
        nifti(tree.folder / f"imagesTr_topbrain_mr/{key}_0000.nii.gz", image_of(number))
        nifti(tree.folder / f"labelsTr_topbrain_mr/{key}.nii.gz", classes)
        tree.labels[key] = label_of(number)


def topcow(tree: Tree) -> None:
    for number, key in enumerate(("001", "002", "003")):
        classes = label_of(number).astype(np.uint8)
        classes[..., : SHAPE[2] // 2] *= 4
        classes[..., -4:] *= 15
        for kind in ("mr", "ct"):
            nifti(tree.folder / f"imagesTr/topcow_{kind}_{key}_0000.nii.gz", image_of(number))
            nifti(tree.folder / f"cow_seg_labelsTr/topcow_{kind}_{key}.nii.gz", classes)
        tree.labels[f"topcow_mr_{key}"] = label_of(number)


def tubetk(tree: Tree) -> None:
    """Tubes in voxels of the image, as in the dataset's own files, with the image's spacing and offset."""
    for number, key in enumerate(("002", "003", "010", "011")):
        home = tree.folder / f"Normal-{key}"
        metaimage(home / f"MRA/Normal{key}-MRA.mha", image_of(number), np.diag([-0.5, -0.5, 0.8, 1.0]))  # LPS is I
        if key == "010":
            continue
        z = np.arange(3.0, 15.0, 0.5)
        points = np.stack([np.full_like(z, 6.0 + number), np.full_like(z, 9.0), z], axis=1)
        tubes(home / "AuxillaryData/VascularNetwork.tre", points, np.full(len(z), 2.1), ElementSpacing="0.5 0.5 0.8")
        x, y, height = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
        beyond_mm = 0.8 * np.maximum(0, np.maximum(3 - height, height - 14.5))
        across_mm = 0.5 * np.hypot(x - 6 - number, y - 9)
        tube = np.hypot(across_mm, beyond_mm) <= 2.1 * 0.5
        tree.labels[key] = tube[::-1, ::-1]  # stored to the left and to the back, loaded as RAS
    tree.unlabelled = 1


def smile_uhura(tree: Tree) -> None:
    for number, (part, key) in enumerate([("Train", "S01"), ("Train", "S02"), ("Validate", "S04"), ("Train", "S05")]):
        nifti(tree.folder / f"{part}Volumes/{key}.nii.gz", image_of(number))
        nifti(tree.folder / f"{part}ManualLabels/{key}.nii", label_of(number))
        tree.labels[key] = label_of(number)
    tree.splits = {"validation": ["S04"]}


TREES: dict[str, Callable[[Tree], None]] = {
    "bids": bids,
    "costa": costa,
    "folders": folders,
    "ixi": ixi,
    "msd": msd,
    "nnunet": nnunet,
    "pegasus": pegasus,
    "smile-uhura": smile_uhura,
    "topbrain": topbrain,
    "topcow": topcow,
    "tubetk": tubetk,
}


def make_tree(name: str, folder: Path) -> Tree:
    tree = Tree(folder)
    TREES[name](tree)
    return tree
