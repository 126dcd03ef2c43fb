import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.errors import BadInput
from curation.images import near_duplicates
from curation.images.decoding import inspect
from curation.images.near_duplicates import near_duplicate_groups

SEEDS = st.lists(st.integers(0, 2**64 - 1), max_size=12)
FLIPS = st.lists(st.tuples(st.integers(0, 99), st.sets(st.integers(0, 63), max_size=7)), max_size=25)


@st.composite
def hash_lists(draw):
    """Random hashes, their copies, and copies of copies, with a few bits flipped."""
    hashes = draw(SEEDS)
    for at, bits in draw(FLIPS) if hashes else []:
        hashes.append(hashes[at % len(hashes)] ^ sum(1 << bit for bit in bits))
    return hashes


def keys_of(hashes):
    return [f"image-{number:06}" for number in range(len(hashes))]


def by_every_pair(keys, hashes, distance):
    groups = list(keys)
    for i in range(len(hashes)):
        for j in range(i):
            if (hashes[i] ^ hashes[j]).bit_count() <= distance:
                low, high = sorted((groups[i], groups[j]))
                groups = [low if group == high else group for group in groups]
    return groups


@given(hashes=hash_lists(), distance=st.integers(0, 16))
def test_groups_equal_those_of_comparing_every_pair(hashes, distance):
    keys = keys_of(hashes)
    assert near_duplicate_groups(keys, hashes, distance) == by_every_pair(keys, hashes, distance)


@given(hashes=hash_lists())
def test_merging_at_every_step_changes_nothing(hashes):
    keys = keys_of(hashes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_EDGES", 0)
        at_every_step = near_duplicate_groups(keys, hashes)
    assert at_every_step == near_duplicate_groups(keys, hashes)


@given(hashes=hash_lists(), random=st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(hashes, random):
    shuffled = list(zip(keys_of(hashes), hashes, strict=True))
    random.shuffle(shuffled)
    keys, moved = [key for key, _ in shuffled], [code for _, code in shuffled]
    expected = dict(zip(keys_of(hashes), near_duplicate_groups(keys_of(hashes), hashes), strict=True))
    assert near_duplicate_groups(keys, moved) == [expected[key] for key in keys]


def test_a_chain_is_one_group_named_by_its_smallest_key():
    assert near_duplicate_groups(["d", "b", "c", "a"], [0xFFF, 0xFF, 0xF, 0xF00000]) == ["b", "b", "b", "a"]


def test_a_hundred_thousand_random_hashes_have_no_near_duplicates():
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64)
    assert near_duplicate_groups(keys_of(hashes), hashes) == keys_of(hashes)


def test_many_copies_of_one_image_are_one_group():
    assert set(near_duplicate_groups(keys_of(range(100_000)), [7] * 100_000)) == {"image-000000"}


def test_a_smaller_reencoded_copy_joins_its_original(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.jpg")]
    for path in paths[:2]:
        Image.fromarray(rng.integers(0, 256, (8, 5, 3), np.uint8)).resize((300, 500)).save(path)
    Image.open(paths[0]).resize((140, 260)).save(paths[2], quality=60)
    assert near_duplicate_groups("abc", [inspect(path).phash for path in paths]) == ["a", "b", "a"]


def test_no_images_have_no_groups():
    assert near_duplicate_groups([], []) == []


@pytest.mark.parametrize("distance", [-1, 17])
def test_a_distance_out_of_range_is_refused(distance):
    with pytest.raises(BadInput, match=f"max_distance {distance}: must be 0 to 16 bits; use 4"):
        near_duplicate_groups(["a"], [1], distance)
