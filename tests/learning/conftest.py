"""Small models and tasks for the tests; one thread, because the sizes are tiny."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from projsym.learning.attention import Attention, Core, explicit_core
from projsym.learning.corpus import Pair, Splits
from projsym.learning.model import Translator
from projsym.learning.sizes import Form, HeadWidth, Sigma, Sizes, Variant
from projsym.learning.start import adopt, draw

TINY = Sizes(width=12, hidden=20, heads=3, vocabulary=30, length=8, batch=4)
Build = Callable[..., Translator]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sizes() -> Sizes:
    return TINY


def shaken(model: nn.Module, seed: int) -> None:
    """Move every parameter, biases too, off its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)


@pytest.fixture
def build() -> Build:
    def make(
        form: Form,
        head_width: HeadWidth = "input",
        sigma: Sigma = "fixed",
        dtype: torch.dtype = torch.float64,
        core: Core = explicit_core,
    ) -> Translator:
        """In evaluation mode, formed from one shaken standard model."""
        standard = Translator(TINY, Variant("standard", head_width, sigma), core).to(dtype)
        draw(standard, 0)
        shaken(standard, 1)
        model = Translator(TINY, Variant(form, head_width, sigma), core).to(dtype)
        adopt(model, standard)
        return model.eval()

    return make


@pytest.fixture
def layers() -> Callable[[nn.Module], list[Attention]]:
    return lambda model: [part for part in model.modules() if isinstance(part, Attention)]


@pytest.fixture
def splits() -> Splits:
    """A toy language: the Spanish side doubles the English one's letters, in reverse order."""
    generator = torch.Generator().manual_seed(0)

    def pairs(count: int, part: str) -> tuple[Pair, ...]:
        found = []
        for i in range(count):
            length = int(torch.randint(1, 6, (1,), generator=generator))
            letters = [chr(97 + int(c)) for c in torch.randint(0, 20, (length,), generator=generator)]
            found.append(Pair(f"{part} {i}", tuple(letters), tuple(2 * c for c in reversed(letters))))
        return tuple(found)

    return Splits(pairs(40, "training"), pairs(12, "validation"), pairs(12, "test"), 0)
