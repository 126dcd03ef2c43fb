"""The examples in the docstrings run."""

import doctest
from types import ModuleType

import pytest
from support.homes import make_home

from curation import Catalog
from curation.analysis import agreement, alpha, colabelling, coverage, dawid_skene, missingness, overlap, priors

MODULES = [agreement, alpha, colabelling, coverage, dawid_skene, missingness, overlap, priors]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("examples"), samples=60)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_examples_run(module: ModuleType, catalog: Catalog) -> None:
    with catalog.read() as now:
        result = doctest.testmod(module, extraglobs={"now": now})
    assert result.attempted > 0
    assert result.failed == 0
