"""Figures of predictions: what holds and what does not are drawn differently."""

import pytest

from hdjax.forecast import drawing
from tests.forecast.examples import forecast


def prediction(drawn):
    """The line of the prediction in the first panel."""
    lines = drawn.axes[0].get_lines()
    return next(line for line in lines if str(line.get_label()).startswith("prediction"))


def test_a_panel_for_each_curve_and_the_spectrum():
    drawn = drawing.figure(forecast())
    assert [ax.get_title() for ax in drawn.axes] == [
        "train risk",
        "test risk",
        "spectrum of the features",
    ]


@pytest.mark.parametrize("verdict", ["doubtful", "fails"])
def test_what_does_not_hold_is_drawn_as_such(verdict):
    sure, unsure = (prediction(drawing.figure(forecast(v))) for v in ("holds", verdict))
    assert unsure.get_label() == f"prediction ({verdict})"
    assert unsure.get_color() != sure.get_color()
    assert unsure.get_linestyle() != sure.get_linestyle()


def test_pictures_have_their_formats():
    drawn = drawing.figure(forecast(runs=0))
    assert drawing.picture(drawn, "png").startswith(b"\x89PNG")
    assert b"<svg" in drawing.picture(drawn, "svg")
