"""Files that a config names, beside the config."""

import pytest
from pydantic import TypeAdapter

from hdjax.schema.files import FileField
from tests.experiments import told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("system.start=missing.npy", "missing.npy'; allowed: a path relative to the config"),
        ("run.times='/dev/zero'", "run.times: no file"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_remedy(write, override, message):
    assert message in told(write(), override)


def test_names_are_relative_to_the_directory_of_the_config(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images.gz").write_text("x")
    field = TypeAdapter(FileField)
    found = field.validate_python("data/images.gz", context={"directory": str(tmp_path)})
    assert found == tmp_path / "data" / "images.gz"
    assert field.validate_python(str(found), context={"directory": "elsewhere"}) == found
    monkeypatch.chdir(tmp_path)
    assert field.validate_python("data/images.gz").samefile(found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "3; allowed: the name of a file, relative to the config"),
        (None, "None; allowed: the name of a file"),
        ("data", "no file .*data.*; allowed: a path relative to the config"),
        ("missing.gz", "no file .*missing.gz"),
    ],
)
def test_what_names_no_file_is_refused(tmp_path, value, message):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=message):
        TypeAdapter(FileField).validate_python(value, context={"directory": tmp_path})
