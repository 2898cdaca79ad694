"""The multiscale autoregressive generator: its pyramid, its distributions, and that it samples what it learns."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks.atlas import ATLAS_FEATURES, ATLAS_SHAPE
from vesselgan.networks.autoregressive import AutoregressiveGenerator, _ranks
from vesselgan.networks.cell_head import _left_read, _mixture, described
from vesselgan.networks.logistic import category_sample, mixture_nll, mixture_sample
from vesselgan.networks.places import PLACE, cell_places, place_of
from vesselgan.networks.pyramid import (
    Level,
    join_children,
    label_classes,
    possible_labels,
    pyramid,
    remaining,
    split_children,
)

PATCH = (32, 16, 16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pairs(count: int, seed: int = 0) -> Tensor:
    pairs = torch.rand(count, 2, *PATCH, generator=seeded(seed)) * 2 - 1
    pairs[:, 1] -= 0.8  # little vessel
    return pairs


def random_places(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, PLACE, generator=seeded(seed)) * 2 - 1


def random_atlas(seed: int = 0) -> Tensor:
    return torch.rand(ATLAS_FEATURES, *ATLAS_SHAPE, generator=seeded(seed))


def test_a_pyramid_holds_means_and_the_share_of_vessel() -> None:
    pairs = torch.full((1, 2, 16, 16, 16), -1.0)
    pairs[0, 0, :2, :2, :2] = torch.arange(8).view(2, 2, 2) / 8
    pairs[0, 1, 0, 0, :2] = 1
    levels = pyramid(pairs, 2)
    assert [level.images.shape for level in levels] == [(1, size, size, size) for size in (16, 8, 4)]
    assert levels[0].labels.sum() == 2
    assert levels[1].images[0, 0, 0, 0] == pytest.approx(3.5 / 8)
    assert levels[1].labels[0, 0, 0, 0] == 2  # of the cell's 8 voxels
    assert levels[1].labels.sum() == 2
    assert levels[2].labels[0, 0, 0, 0] == 1  # 2 of 64 voxels are few, but not none


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_the_value_of_background_in_the_label_channel_makes_no_difference(low: float) -> None:
    pairs = random_pairs(2)
    marked = pairs[:, 1] > 0
    pairs[:, 1] = torch.where(marked, 1.0, low)
    assert torch.equal(pyramid(pairs, 1)[0].labels, marked.long())


def test_labels_of_all_levels_stay_within_their_classes_and_only_empty_cells_have_class_zero() -> None:
    pairs = random_pairs(3)
    for number, level in enumerate(pyramid(pairs, 4)):
        assert int(level.labels.max()) < label_classes(number)
        size = 2**number
        share = torch.nn.functional.max_pool3d((pairs[:, 1:] > 0).float(), size)[:, 0]
        assert torch.equal(level.labels > 0, share > 0)


def test_children_come_back_to_their_places() -> None:
    volumes = torch.arange(2 * 8 * 6 * 4).view(2, 8, 6, 4)
    children = split_children(volumes)
    assert children.shape == (2, 8, 4, 3, 2)
    assert torch.equal(join_children(children), volumes)


def test_what_is_left_of_a_mean_is_shared_by_the_children_to_come() -> None:
    parents = Level(torch.tensor([0.25]), torch.tensor([3]))
    children = Level(torch.tensor([[1.0, 0.5, 0, 0, 0, 0, 0, 0.5]]), torch.tensor([[1, 1, 0, 1, 0, 0, 0, 0]]))
    left = remaining(parents, children, level=0)
    assert left.images[0, :3].tolist() == pytest.approx([0.25, 1 / 7, 0.5 / 6])
    assert left.images[0, 7] == pytest.approx(0.5)
    assert left.labels[0].tolist() == pytest.approx([3 / 8, 2 / 7, 1 / 6, 1 / 5, 0, 0, 0, 0])


def test_vessel_voxels_are_as_many_as_the_parent_counts() -> None:
    children = torch.tensor([[1, 1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1]])
    parents = Level(torch.zeros(2), torch.tensor([3, 3]))
    left = remaining(parents, Level(torch.zeros(2, 8), children), level=0).labels
    chances = possible_labels(parents.labels, children, left, level=0).softmax(dim=-1)[..., 1]
    assert chances[0].tolist() == pytest.approx([3 / 8, 2 / 7, 1 / 6, 1 / 5, 0, 0, 0, 0])
    assert chances[1].tolist() == pytest.approx([3 / 8, 3 / 7, 3 / 6, 3 / 5, 3 / 4, 1, 1, 1])


def test_a_cell_has_vessel_if_and_only_if_one_of_its_children_has() -> None:
    children = torch.zeros(2, 8, dtype=torch.long)
    offsets = possible_labels(torch.tensor([0, 2]), children, torch.zeros(2, 8), level=2)
    possible = offsets > -100
    assert possible[0].tolist() == [[True] + [False] * 8] * 8
    assert possible[1, :7].all()
    assert possible[1, 7].tolist() == [False] + [True] * 8


def test_the_mixture_is_a_distribution_density_inside_and_probability_at_the_ends() -> None:
    parameters = torch.tensor([0.3, -0.4, 0.1, -0.9, 0.2, 1.1, -1.5, -3.0, -0.5])
    inside = torch.linspace(-0.9998, 0.9998, 200_001)
    density = torch.exp(-mixture_nll(parameters.expand(len(inside), -1), inside)).double()
    ends = torch.exp(-mixture_nll(parameters.expand(2, -1), torch.tensor([-1.0, 1.0]))).sum()
    assert float(torch.trapezoid(density, inside.double()) + ends) == pytest.approx(1, abs=2e-3)
    assert float(ends) > 0.2


def test_samples_of_the_mixture_have_its_mean_likelihood_and_stay_in_range() -> None:
    parameters = torch.tensor([0.0, 1.0, -0.5, 0.9, -3.0, -1.0]).expand(40_000, -1)
    drawn = mixture_sample(parameters, seeded())
    assert float(drawn.min()) >= -1
    assert float(drawn.max()) == 1
    grid = torch.linspace(-0.9999, 0.9999, 20_001)
    nll = mixture_nll(parameters[: len(grid)], grid)
    at_ends = mixture_nll(parameters[:2], torch.tensor([-1.0, 1.0]))
    entropy = torch.trapezoid(torch.exp(-nll) * nll, grid) + (torch.exp(-at_ends) * at_ends).sum()
    assert float(mixture_nll(parameters, drawn).mean()) == pytest.approx(float(entropy), abs=0.03)


def test_classes_are_drawn_with_their_probabilities() -> None:
    drawn = category_sample(torch.tensor([0.1, 0.6, 0.3]).log().expand(20_000, -1), seeded())
    assert (torch.bincount(drawn, minlength=3) / len(drawn)).tolist() == pytest.approx([0.1, 0.6, 0.3], abs=0.02)


@pytest.mark.parametrize(
    ("patch", "height", "coarsest"),
    [((32, 32, 16), 4, (2, 2, 1)), ((64, 64, 32), 5, (2, 2, 1)), ((48, 48, 48), 4, (3, 3, 3))],
)
def test_a_patch_is_halved_until_an_axis_is_odd(
    patch: tuple[int, int, int], height: int, coarsest: tuple[int, int, int]
) -> None:
    generator = AutoregressiveGenerator(patch, filters=8)
    assert (generator.height, generator.coarsest.shape) == (height, coarsest)


def test_a_patch_size_that_does_not_fit_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match="multiple of 16"):
        AutoregressiveGenerator((32, 30, 16))


def test_samples_are_labelled_patches_and_depend_on_the_random_numbers_alone() -> None:
    generator = AutoregressiveGenerator(PATCH, filters=8)
    first, again, other = (generator.sample(2, seeded(seed)) for seed in (1, 1, 2))
    assert first.images.shape == first.labels.shape == (2, *PATCH)
    assert float(first.images.abs().max()) <= 1
    assert set(first.labels.unique().tolist()) == {0, 1}
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)


def restless(generator: AutoregressiveGenerator) -> AutoregressiveGenerator:
    """With weights that make every input count, and intensities that are seldom clipped."""
    generator.calibrate(0.1 * random_pairs(4), random_places(4), random_atlas())
    for number, parameter in enumerate(generator.parameters()):
        torch.nn.init.normal_(parameter, 0, 0.1, generator=seeded(number))
    return generator


def test_every_level_of_a_sample_agrees_with_the_level_above_it() -> None:
    generator = restless(AutoregressiveGenerator(PATCH, filters=8))
    rng = seeded()
    places = random_places(4)
    means = generator._means(places)
    level = generator.coarsest.sample(places, means[-1], generator.scale, rng)
    for number in reversed(range(generator.height)):
        parent = level
        level = generator.levels[number].sample(parent, places, means[number], generator.scale, rng)
        pooled = torch.nn.functional.avg_pool3d(level.images[:, None], 2)[:, 0]
        clipped = split_children(level.images).abs().amax(dim=1) > 1 - 1e-6  # what is left is clipped, then rounded
        assert clipped.float().mean() < 1
        assert torch.allclose(pooled[~clipped], parent.images[~clipped], atol=1e-5)
        has_vessel = torch.nn.functional.max_pool3d((level.labels[:, None] > 0).float(), 2)[:, 0] > 0
        assert torch.equal(has_vessel, parent.labels > 0)
    assert torch.equal(split_children(level.labels).sum(dim=1), parent.labels)


@pytest.mark.parametrize(("level", "turn"), [(0, 0), (0, 1), (1, 0), (1, 3), (1, 7)])
def test_a_voxel_is_predicted_from_nothing_that_comes_after_it(level: int, turn: int) -> None:
    """Else the likelihood would be none, and samples would not be like what was learned."""
    generator = restless(AutoregressiveGenerator(PATCH, filters=8))
    refinement, classes = generator.levels[level], label_classes(level)
    parent = Level(torch.rand(1, 2, 2, 2, generator=seeded(1)), torch.full((1, 2, 2, 2), 4))
    images = torch.rand(1, 8, 2, 2, 2, generator=seeded(2))
    labels = torch.randint(0, classes, (1, 8, 2, 2, 2), generator=seeded(3))
    first, end = refinement.passes((2, 2, 2))[turn]
    ranks = _ranks((2, 2, 2))
    row = int(np.flatnonzero((ranks >= first) & (ranks < end))[-1])
    size = 4 if level else 2  # of the atlas: at children, for the finest level at parents
    means = torch.rand(1, ATLAS_FEATURES, size, size, size, generator=seeded(4))

    def predicted(images: Tensor, labels: Tensor, child: int) -> tuple[Tensor, Tensor]:
        children, own = Level(images, labels), slice(child, child + 1)
        told = (random_places(1), means, ranks < first, generator.scale)
        context = refinement._context(parent, children, *told)[0]
        rows = Level(*(part.flatten(2)[0].T for part in children))
        above = Level(*(part.flatten() for part in parent))
        head, scale = refinement.head, generator.scale
        left = head._left(above, rows, head._usual(refinement._expected(parent, means)[0]), own)
        seen = (context, described(rows, head.level, scale), _left_read(left, scale), own)
        logits = head._possible(head.label(*seen), above, rows, left, own)
        return logits[row], _mixture(head.intensity(*seen), left.images, scale)[row]

    with torch.no_grad():
        for child in range(7):  # the last intensity is what is left
            before = predicted(images, labels, child)
            for other in range(8):
                for cell in range(8):
                    seen = ranks[cell] < first or (cell == row and other < child)
                    at = (0, other, *np.unravel_index(cell, (2, 2, 2)))
                    brighter, marked = images.clone(), labels.clone()
                    brighter[at] += 0.3
                    marked[at] = (marked[at] + classes // 2) % classes
                    own = cell == row and other == child
                    for number, (after, own_class) in enumerate(
                        ((predicted(brighter, labels, child), False), (predicted(images, marked, child), own))
                    ):
                        # What a mean leaves is a sum less a part of it, so it may be rounded otherwise.
                        logits, mixture = (
                            (one - two).abs().max() > 1e-6 for one, two in zip(before, after, strict=True)
                        )
                        assert logits == seen, (child, other, cell, number)
                        assert mixture == (seen or own_class), (child, other, cell, number)


@pytest.mark.parametrize(("shape", "passes"), [((2, 2, 1), 4), ((4, 4, 2), 8), ((3, 3, 3), 8), ((1, 1, 1), 1)])
def test_each_cell_is_drawn_once_and_next_to_none_of_its_pass(shape: tuple[int, int, int], passes: int) -> None:
    generator = AutoregressiveGenerator(PATCH, filters=8)
    ranks = _ranks(shape).reshape(shape)
    ranges = generator.levels[1].passes(shape)
    assert len(ranges) == passes
    assert [rank for first, end in ranges for rank in range(first, end)] == list(range(ranks.max() + 1))
    for axis in range(3):
        neighbours = np.moveaxis(ranks, axis, 0)
        assert (neighbours[1:] != neighbours[:-1]).all()
    colours = _ranks((4, 4, 4)).reshape(4, 4, 4) < 4
    assert np.array_equal(colours, np.indices((4, 4, 4)).sum(axis=0) % 2 == 0), "the finest level's first pass"


def test_a_turn_learns_the_cells_that_its_pass_begins_with_and_none_that_are_known() -> None:
    """Each turn's likelihood moves with every cell that it is to learn, and with none of the known ones' own."""
    generator = restless(AutoregressiveGenerator(PATCH, filters=8))
    refinement = generator.levels[2]
    shape = (2, 2, 2)
    parent, level = (pyramid(random_pairs(1), 4)[number] for number in (3, 2))
    ranks = _ranks(parent.images.shape[1:])
    told = (random_places(1), generator._means(random_places(1))[2])
    assert parent.images.shape[1:] != shape
    with torch.no_grad():
        for turn, (first, _) in enumerate(refinement.passes(parent.images.shape[1:])):
            before = refinement(parent, level, *told, turn, generator.scale)
            last = int(np.flatnonzero(ranks == ranks.max())[0])
            for cell in {int(np.flatnonzero(ranks == first)[0]), last}:
                x, y, z = (2 * int(part) for part in np.unravel_index(cell, parent.images.shape[1:]))
                brighter = level.images.clone()
                brighter[0, x, y, z] += 0.2
                after = refinement(parent, Level(brighter, level.labels), *told, turn, generator.scale)
                half = (int(ranks.max()) + 1) // 2
                learned = min(first, half) <= ranks[cell] < min(first, half) + half and ranks[cell] >= first
                assert torch.equal(before, after) != learned, (turn, cell)


def test_the_coarse_levels_may_see_more_pairs_than_the_fine_ones() -> None:
    generator = AutoregressiveGenerator(PATCH, filters=8)
    pairs = random_pairs(4)
    few = generator.nll(pairs, random_places(4), 0, [1, 2, 4, 4])
    changed = pairs.clone()
    changed[1:] = random_pairs(3, seed=9)
    other = generator.nll(changed, random_places(4), 0, [1, 2, 4, 4])
    assert torch.equal(few[0], other[0])
    assert not torch.equal(few[1], other[1])


def test_an_untrained_generator_is_not_far_from_what_it_starts_from() -> None:
    """Class probabilities near even and a broad density: a start from which likelihood is easily gained."""
    generator = AutoregressiveGenerator(PATCH, filters=8)
    generator.atlas[0] = 1  # grey, as the pairs are on average
    terms = generator.nll(random_pairs(2), 0.5 * random_places(2), 0, [2] * 4)
    assert len(terms) == 5
    for number, term in enumerate(terms):
        assert abs(term.item() - math.log(label_classes(number))) < 1.5


def test_the_place_of_a_patch_is_its_middle_and_its_share_of_the_volume() -> None:
    place = place_of((-8, 24, 0), (16, 16, 16), (64, 32, 16), on_vessel=True)
    assert place.tolist() == [-1, 1, 0, 0.25, 0.5, 1, 1]
    assert place_of((0, 0, 0), (16, 16, 16), (64, 32, 16), on_vessel=False)[6] == -1


def test_each_cell_is_told_where_it_lies_in_the_volume() -> None:
    places = torch.tensor([[0.5, 0, -0.5, 0.25, 1, 0.5, -1]])
    cells = cell_places(places, (2, 4, 1))
    assert cells.shape == (1, 4, 2, 4, 1)
    assert cells[0, 0, :, 0, 0].tolist() == [0.375, 0.625]
    assert cells[0, 1, 0, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert cells[0, 2].unique().tolist() == [-0.5]
    assert cells[0, 3].unique().tolist() == [-1]


def test_every_level_hears_of_the_place() -> None:
    generator = restless(AutoregressiveGenerator(PATCH, filters=8))
    pairs = random_pairs(2)
    here, there = (generator.nll(pairs, random_places(2, seed), 0, [2] * 4) for seed in (1, 2))
    assert all(not torch.equal(one, other) for one, other in zip(here, there, strict=True))


def test_every_level_hears_of_the_atlas() -> None:
    generator = restless(AutoregressiveGenerator(PATCH, filters=8))
    pairs, places = random_pairs(2), 0.5 * random_places(2)
    one = generator.nll(pairs, places, 0, [2] * 4)
    generator.atlas.copy_(random_atlas(1))
    other = generator.nll(pairs, places, 0, [2] * 4)
    assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("level", [1, 3])
def test_intensities_start_from_what_the_mean_leaves_and_differ_as_those_of_the_atlas(level: int) -> None:
    head = AutoregressiveGenerator(PATCH, filters=8).levels[level].head
    expected = torch.tensor([[0.1, -0.1, 0.3, -0.3, 0, 0, 0.2, -0.2]]) + 0.5  # a shift of all makes no difference
    parents = Level(torch.tensor([-0.2]), torch.tensor([4]))
    as_usual = expected - 0.5 + parents.images
    start = head._left(parents, Level(as_usual, torch.full((1, 8), 4)), head._usual(expected), slice(0, 8)).images
    torch.testing.assert_close(start, as_usual)
    darker = as_usual.clone()
    darker[0, 0] -= 0.07  # the other seven have to make up for it
    start = head._left(parents, Level(darker, torch.full((1, 8), 4)), head._usual(expected), slice(0, 8)).images
    torch.testing.assert_close(start[:, 1], as_usual[:, 1] + 0.01)
    torch.testing.assert_close(start[:, 0], as_usual[:, 0])


def test_samples_lie_where_the_patches_did_that_were_learned_from() -> None:
    generator = AutoregressiveGenerator(PATCH, filters=8)
    places = random_places(3)
    generator.calibrate(random_pairs(3), places, random_atlas())
    assert {tuple(place) for place in generator.places.tolist()} == {tuple(place) for place in places.tolist()}
    counts = [(generator.places == place).all(dim=1).sum().item() for place in places]
    assert max(counts) - min(counts) <= 1
