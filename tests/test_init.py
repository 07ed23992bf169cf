"""The public face: every name it promises is there, and nothing else pretends to be."""

import pytest

import genus


@pytest.mark.parametrize("name", sorted(set(dir(genus)) - {"demo"}))
def test_every_listed_name_resolves(name):
    assert getattr(genus, name) is not None


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'recipies'"):
        _ = genus.recipies
    assert not hasattr(genus, "__path_hooks__")
