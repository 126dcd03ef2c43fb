"""Features that fit the images: size, letterbox, crop and mirrored views."""

import doctest

import numpy as np
import pytest
from support.homes import make_home

from curation import BadInput, Catalog
from curation.images.embeddings import Embeddings
from samplers import make_pack
from training import Recipe
from training.evaluation import features, image_size
from training.evaluation.features import GREY, embed, framed
from training.evaluation.image_size import fitted_size


@pytest.mark.parametrize("module", [features, image_size])
def test_examples(module: object) -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("features"), samples=12)


def embedded(catalog: Catalog, **changed: object) -> Embeddings:
    recipe = Recipe.of("efficientnet_lite0", size=(32, 64), threads=1, **changed)
    found = embed(catalog.home, make_pack(catalog), recipe)
    assert found is not None
    return found


def test_size_follows_the_images(catalog: Catalog) -> None:
    with catalog.read() as now:
        assert fitted_size(now) == (64, 96)  # 32 x 48, enlarged


def test_a_catalog_without_images_has_no_size(tmp_path: object) -> None:
    with Catalog.create(f"{tmp_path}/home").read() as now, pytest.raises(BadInput, match="no image"):
        fitted_size(now)


def test_every_size_fit_and_view_has_embeddings_of_its_own(catalog: Catalog) -> None:
    models = [embedded(catalog, fit=fit) for fit in ("stretch", "letterbox", "crop")] + [
        embedded(catalog, mirrored=True)
    ]
    assert len({found.model for found in models}) == 4
    assert len({np.asarray(found.vectors).tobytes() for found in models}) == 4


def test_a_letterbox_keeps_shape_between_grey_borders() -> None:
    image = np.arange(2 * 3 * 4 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
    out = framed(image, (4, 6))
    assert np.array_equal(out[:, :, :, 2:4], image)
    assert (out[:, :, :, [0, 1, 4, 5]] == GREY).all()


def test_a_crop_keeps_the_middle() -> None:
    image = np.arange(3 * 6 * 4, dtype=np.uint8).reshape(1, 3, 6, 4)
    assert np.array_equal(framed(image, (4, 4)), image[:, :, 1:5])
