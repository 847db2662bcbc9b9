"""The page of HTML stands alone, and says what the prediction is worth."""

import re

from hdjax.forecast import report
from tests.forecast.examples import forecast


def test_it_needs_no_other_file():
    page = report.page(forecast())
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "SGD on &lt;data&gt;" in page


def test_it_says_what_the_prediction_is_worth():
    assert "do not use the prediction" in report.page(forecast("fails"))
    assert "do not use the prediction" not in report.page(forecast("holds"))
