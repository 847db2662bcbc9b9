"""The cases of the tests in `closed_forms.py` are those of each file's own class."""

from tests.streaming.losses.closed_forms import SINGULAR, ClosedForms


def pytest_generate_tests(metafunc):
    if metafunc.cls is None or not issubclass(metafunc.cls, ClosedForms):
        return
    cases = metafunc.cls.cases
    if "gram" not in metafunc.fixturenames:
        metafunc.parametrize("case", cases.values(), ids=cases)
        return
    pairs = [
        (case, gram) for case in cases.values() for gram in SINGULAR if gram[1, 1] or not case.hard
    ]
    metafunc.parametrize(("case", "gram"), pairs)
