"""Trunks that learn: stages, what stays as it was, weights that are given, and trunks of one's own."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.homes import make_home
from support.learned import TASKS, recipe
from support.networks import recorded, trained
from torch import nn

from curation import BadInput, Catalog, NotFound
from curation.errors import Failed
from training import Recipe, Run, evaluate
from training.loop.optimise import TreeOptimiser
from training.network.model import build_tree, learning_trunk, load_any
from training.network.trunk_list import trunk_of
from training.network.trunks import EfficientNetLite0, FineTunedLite0, SmallTrunk
from training.run import run_id, weights_digest

SIZE = (64, 96)


def features(trunk: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Features by running the stages of a trunk one after the other."""
    with torch.no_grad():
        for _, stage in trunk.stages:  # type: ignore[union-attr]
            images = stage(images)
    return images


def test_the_trunk_that_learns_begins_as_the_frozen_one() -> None:
    images = torch.randint(0, 256, (3, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = features(FineTunedLite0().eval(), images.float() / 127.5 - 1)
    expected = EfficientNetLite0().features(images)[:, :1280]
    assert found == pytest.approx(expected, abs=1e-3 * float(expected.max()))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("trunks"), samples=60)


@pytest.fixture(scope="module")
def tuned(catalog: Catalog) -> Run:
    """A run that learned from block 14 on."""
    return trained(catalog, trunk="efficientnet_lite0", learn_from="block14", tree="shared", global_batch=32)


def test_what_comes_before_the_stage_keeps_its_weights(catalog: Catalog, tuned: Run) -> None:
    from samplers import Plan

    network = load_any(tuned, Plan.open(catalog.home, tuned.plan).tasks, catalog.home)
    before = FineTunedLite0()
    moved = {
        name: any(not torch.equal(part, two.state_dict()[inner]) for inner, part in one.state_dict().items())
        for (name, one), (_, two) in zip(network.trunk.stages, before.stages, strict=True)
    }
    assert [name for name, has in moved.items() if has] == ["block14", "block15", "head"]
    statistics = [name for name in network.trunk.state_dict() if name.endswith("running_mean")]
    assert all(torch.equal(network.trunk.state_dict()[name], before.state_dict()[name]) for name in statistics)
    evaluate(tuned, catalog, author="ada")
    assert recorded(catalog, tuned, "car", ["pictures/00001"]).shape == (1, 2)


def test_a_recipe_that_learns_from_a_stage_has_its_own_defaults() -> None:
    frozen, learning = Recipe.of("efficientnet_lite0"), Recipe.of("efficientnet_lite0", learn_from="input")
    assert (frozen.learns, frozen.embeddings != "", frozen.heads) == (False, True, "auto")
    assert (learning.learns, learning.embeddings, learning.heads, learning.trunk_rate) == (True, "", "drawn", 0.1)
    assert "learn_from" not in frozen.words  # its run keeps its id
    compared = learning.features("someone")
    assert compared is not None
    assert compared.trunk == "efficientnet_lite0"
    assert not compared.learns


def test_copies_of_stages_learn_at_the_rate_of_the_trunk() -> None:
    made = recipe(trunk="small", optimizer="adamw", tree="separate", trunk_rate=0.25)
    network = build_tree(made, TASKS, None)
    optimiser = TreeOptimiser(made, network, [task.name for task in TASKS])
    scales = {id(weight): group["scale"] for group in optimiser.inner.param_groups for weight in group["params"]}
    branch = network.branches["own_car"]
    assert {scales[id(weight)] for weight in branch[:5].parameters()} == {0.25}  # type: ignore[index]
    assert {scales[id(weight)] for weight in branch[5:].parameters()} == {1.0}  # type: ignore[index]


class Own(SmallTrunk):
    """A trunk of one's own with what a test makes wrong."""

    wrong = ""

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        found = super().stages
        return {"no stages": [], "a stage is missing": [found[0], *found[2:]], "no pooling": found[:-1]}.get(
            self.wrong, found
        )


OWN = {
    "no stages": "must have `stages`",
    "a stage is missing": "its stage 'stage3' cannot read what comes before it",
    "no pooling": "its stages put out [1, 128, 2, 2] for one image, must be [1, 1024]",
}


@pytest.mark.parametrize(("wrong", "says"), OWN.items(), ids=OWN)
def test_a_trunk_without_the_promised_stages(wrong: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_trunks")
    module.make = lambda: type("Wrong", (Own,), {"wrong": wrong})()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_trunks", module)
    with pytest.raises(BadInput) as caught:
        learning_trunk(Recipe.of("own_trunks:make", size=(32, 32)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            {"trunk": "efficientnet_lite0", "learn_from": "block99"},
            "is no stage of efficientnet_lite0; take input, stem",
        ),
        ({"trunk": "run:abc", "learn_from": "stem", "heads": "drawn", "optimizer": "adamw"}, "learn_from = stem"),
        ({"trunk": "small", "weights": "hub"}, "weights = hub"),
        ({"trunk": "timm:resnet18"}, "needs weights"),
    ],
)
def test_recipes_that_do_not_fit(words: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        build_tree(Recipe.parse(words), TASKS, None)


# timm


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of a model with its classifier, as the hub has them."""
    learning_trunk(Recipe.of("timm:resnet10t", weights="random", size=(32, 32)))  # timm can be imported now
    import timm

    path = tmp_path_factory.mktemp("weights") / "resnet10t.pt"
    torch.manual_seed(1)
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), path)
    return path


def test_a_model_of_timm_begins_with_the_weights_that_are_given(weights: Path) -> None:
    import timm

    made = learning_trunk(Recipe.of("timm:resnet10t", weights=str(weights), size=SIZE)).eval()
    assert [name for name, _ in made.stages][-5:] == ["layer1", "layer2", "layer3", "layer4", "global_pool"]  # type: ignore[union-attr]
    model = timm.create_model("resnet10t", pretrained=False).eval()
    model.load_state_dict(torch.load(weights))
    images = torch.rand(2, 3, *SIZE)
    mean, deviation = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model.forward_head(model.forward_features((images - mean) / deviation), pre_logits=True)
    assert features(made, images * 2 - 1) == pytest.approx(expected, abs=1e-4)


def test_a_model_that_is_no_chain_is_one_stage() -> None:
    found = trunk_of("timm:vit_tiny_patch16_224", (32, 48))
    assert ([stage.name for stage in found.stages], found.width) == (["whole"], 192)


def test_a_run_needs_no_weights_any_more(catalog: Catalog, weights: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.pt"
    given.write_bytes(weights.read_bytes())
    words = {"trunk": "timm:resnet10t", "weights": str(given), "learn_from": "layer4", "global_batch": 32}
    run = trained(catalog, **words)
    given.unlink()
    evaluate(run, catalog, author="ada")
    assert run.recipe.trunk_rate == 0.1
    with pytest.raises(NotFound, match="no such file"):
        weights_digest(run.recipe)


def test_other_weights_are_another_run(catalog: Catalog, weights: Path, tmp_path: Path) -> None:
    from samplers import Plan

    made, plan = Recipe.of("timm:resnet10t", weights=str(tmp_path / "w")), Plan.newest(catalog.home)
    ids = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "w").write_bytes(content)
        ids.append(run_id(plan, made, order=weights_digest(made)))
    assert ids[0] == ids[2] != ids[1]


WRONG = {
    "an unknown model": ("resnet81", "random", BadInput, "no such model; did you mean timm:resnet18?"),
    "a missing file": ("resnet10t", "nowhere.pt", NotFound, "no such file"),
    "weights of another model": ("resnet14t", "GIVEN", BadInput, "are not those of timm:resnet14t"),
    "a file that holds none": ("resnet10t", __file__, BadInput, "are not those of timm:resnet10t"),
}


@pytest.mark.parametrize(("name", "given", "kind", "says"), WRONG.values(), ids=WRONG)
def test_what_timm_cannot_make(name: str, given: str, kind: type[Exception], says: str, weights: Path) -> None:
    with pytest.raises(kind) as caught:
        learning_trunk(Recipe.of(f"timm:{name}", weights=str(weights) if given == "GIVEN" else given))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("weights")
def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Failed, match="give weights = FILE"):
        learning_trunk(Recipe.of("timm:resnet10t", weights="hub"))
