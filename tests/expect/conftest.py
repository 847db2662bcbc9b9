"""A result of which rules are evaluated."""

import pytest

from tests.expect.results import OPTIONS, RECORDED, TIMES, groups
from tests.trees import made


@pytest.fixture
def result():
    return made(groups(), TIMES, recorded=RECORDED, **OPTIONS)
