"""Shapes, parameters against the symbolic counts, and masks that hide what they should."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from projsym.learning.attention import Attention, explicit_core, projsym_core, torch_core
from projsym.learning.counts import FORM_OF, model_parameters, predict, substituted
from projsym.learning.model import Translator
from projsym.learning.sizes import FORMS, FULL, Form, HeadWidth, Sizes, Variant
from projsym.learning.vocabulary import PAD

VARIANTS = list(itertools.product(FORMS, ("input", "split")))
Build = Callable[..., Translator]


@pytest.fixture
def batch(sizes: Sizes) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers with padding at the end of the sources."""
    generator = torch.Generator().manual_seed(2)
    source, target = torch.randint(4, sizes.vocabulary, (2, 5, sizes.length), generator=generator)
    source[:, 5:] = PAD
    return source, target


@pytest.mark.parametrize(("form", "head_width"), VARIANTS)
def test_parameters_are_the_symbolic_count(form: Form, head_width: HeadWidth, sizes: Sizes) -> None:
    for at in (sizes, Sizes(8, 5, 2, 11, 3, 1)):
        variant = Variant(form, head_width)
        model = Translator(at, variant)
        counted = substituted(model_parameters(FORM_OF[form]), at, variant)
        assert sum(p.numel() for p in model.parameters()) == counted


@pytest.mark.parametrize("form", FORMS)
def test_learned_sigma_adds_one_number_a_head(form: Form, sizes: Sizes) -> None:
    fixed, learned = (Translator(sizes, Variant(form, "split", s)) for s in ("fixed", "learned"))
    extra = sum(p.numel() for p in learned.parameters()) - sum(p.numel() for p in fixed.parameters())
    assert extra == 3 * sizes.heads


def test_sigma_starts_at_the_scale_of_the_paper(build: Build, sizes: Sizes) -> None:
    layer = build("standard", "split").cross_attention
    width = sizes.width // sizes.heads
    assert torch.equal(layer.sigma, torch.full((sizes.heads,), width**0.5).sqrt())


@pytest.mark.parametrize(("form", "head_width"), VARIANTS)
@pytest.mark.parametrize("core", [explicit_core, projsym_core, torch_core])
def test_no_row_sees_a_later_token(
    form: Form, head_width: HeadWidth, core: object, build: Build, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model, (source, target) = build(form, head_width, core=core), batch
    changed = target.clone()
    changed[:, 4] = (target[:, 4] - 3) % 26 + 4
    before, after = model(source, target), model(source, changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize(("form", "head_width"), VARIANTS)
@pytest.mark.parametrize("core", [explicit_core, projsym_core, torch_core])
def test_padding_of_the_source_is_not_seen(
    form: Form, head_width: HeadWidth, core: object, build: Build, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model, (source, target) = build(form, head_width, core=core), batch
    before = model(source, target)
    with torch.no_grad():
        model.source.token.weight[PAD] += 100
    assert torch.equal(before, model(source, target))
    with torch.no_grad():
        model.source.token.weight[source[0, 0]] += 1
    assert not torch.equal(before, model(source, target))


@pytest.mark.parametrize(("form", "head_width"), VARIANTS)
def test_decoding_a_prefix_gives_the_rows_of_the_whole(
    form: Form, head_width: HeadWidth, build: Build, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Up to the rounding of float64 in sums that are cut in other places: far below the 1e-10 asked for."""
    model, (source, target) = build(form, head_width), batch
    visible = (source != PAD)[:, None, None, :]
    memory = model.encode(source, visible)
    whole, part = model(source, target), model.decode(target[:, :3], memory, visible)
    assert (whole[:, :3] - part).abs().max() < 1e-10


def test_normalised_keys_have_one_norm(build: Build) -> None:
    """The hypothesis of I.4, up to the ε of the norm and the rounding of 12 operations; keys as the core sees
    them."""
    seen: list[torch.Tensor] = []

    def core(q: torch.Tensor, k: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(k)
        return explicit_core(q, k, *rest)  # type: ignore[arg-type]

    layer = build("tied-normalised", "split", core=core).cross_attention
    x = torch.randn(2, 4, 12, dtype=torch.float64)
    layer(x, x, torch.ones(1, 1, 4, 4, dtype=torch.bool))
    width, ε = layer.head_width, torch.finfo(torch.float64).eps
    before = layer.key(x).unflatten(-1, (-1, width)).transpose(1, 2).square().mean(-1)  # type: ignore[misc]
    wanted = width * before / (before + ε)
    assert ((seen[0].square().sum(-1) - wanted).abs() <= 12 * ε * width).all()
    assert before.max() > 2 * before.min()


def test_the_tied_forms_hand_the_core_one_tensor(build: Build) -> None:
    def core(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: object) -> torch.Tensor:
        assert v is k
        return explicit_core(q, k, v, *rest)  # type: ignore[arg-type]

    x, visible = torch.randn(1, 3, 12, dtype=torch.float64), torch.ones(1, 1, 3, 3, dtype=torch.bool)
    for form in ("tied", "folded", "tied-normalised"):
        layer: Attention = build(form, core=core).cross_attention
        layer(x, x, visible)
    with pytest.raises(AssertionError):
        build("standard", core=core).cross_attention(x, x, visible)


def test_predicted_ratios_at_the_full_sizes() -> None:
    """Against sums made by hand here: a step is three forward passes, n = 20 rows of 64 sentences."""
    rows, width, inner = 64 * 20, 256, 8 * 256
    weight, mixing = 2 * rows * width * inner, 2 * rows * 20 * inner
    rest = 2 * (2 * 2 * rows * width * 2048) + 2 * rows * width * 15_000
    for form, weights in (("standard", 4), ("tied", 3), ("folded", 2)):
        found = predict(FULL, Variant(form))  # type: ignore[arg-type]
        assert found.attention == 3 * 3 * (weights * weight + 2 * mixing) and found.rest == 3 * rest
    assert predict(FULL, Variant("standard")).step_ratio == 1


@pytest.mark.parametrize("name", ["form", "head_width", "sigma"])
def test_variants_are_checked(name: str) -> None:
    given = {"form": "tied", "head_width": "input", "sigma": "fixed"} | {name: "other"}
    with pytest.raises(ValueError, match=f"{name}: given 'other'"):
        Variant(**given)  # type: ignore[arg-type]


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="hidden: given 0"):
        Sizes(8, 0, 2, 11, 3, 1)
    with pytest.raises(ValueError, match="heads: given 3"):
        Sizes(8, 5, 3, 11, 3, 1).head_width("split")
