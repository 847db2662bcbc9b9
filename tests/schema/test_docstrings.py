"""Docstrings in Google's style: the summary and the arguments that tables show."""

from hdjax.registry import Entry
from hdjax.schema import arguments, summary


def ball(radius, *rest, **options):
    """A ball,
    of some radius.

    More on balls.

    Args:
        radius: how far
            it goes: in metres.
        *rest: others,

            after a gap.
        **options: further ones.

    Raises:
        ValueError: no argument: it is raised.
    """


def bare(radius): ...


def test_arguments_are_joined_to_one_line_and_end_with_their_section():
    assert arguments(ball) == {
        "radius": "how far it goes: in metres.",
        "rest": "others, after a gap.",
        "options": "further ones.",
    }
    assert arguments(bare) == {}


def test_a_class_is_described_by_its_docstring():
    class Cube:
        """A cube.

        Args:
            side: its length.
        """

        def __init__(self, side):
            """Not this one.

            Args:
                side: another.
            """

    assert arguments(Cube) == {"side": "its length."}


def test_the_summary_is_the_first_paragraph_of_what_is_called():
    assert summary(Entry("test.solid", "ball", bare, ball)) == "A ball, of some radius."
    assert summary(Entry("test.solid", "ball", ball, bare)) == "A ball, of some radius."
    assert summary(Entry("test.solid", "bare", bare, bare)) == ""
