"""The commands for a user's own data: files, table and exit codes."""

import numpy as np
import pandas as pd
import pytest

from hdjax import cli, commands
from hdjax.forecast.tables import SHIPPED


def written(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.slow
def test_predict_writes_a_report(tmp_path, capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((80, 6)), columns=list("abcdef"))
    frame.assign(y=frame.sum(axis=1)).to_csv(tmp_path / "t.csv", index=False)
    words = ["predict", str(tmp_path / "t.csv"), "--target", "y", "--no-simulate", "--no-cache"]
    assert cli.main([*words, "--epochs", "1", "--out", str(tmp_path / "out")]) == 0
    assert written(tmp_path / "out") == ["figure.png", "report.html", "summary.json", "table.csv"]
    printed = capsys.readouterr().out
    assert "holds     size" in printed
    assert "train predicted" in printed


def test_a_mistake_is_one_line(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,b,y\n1,u,0\n2,v,1\n")
    words = ["predict", str(tmp_path / "t.csv"), "--target", "y", "--no-cache"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: column 'b': text such as 'u'")
    assert said.count("\n") == 1


def test_the_list_names_what_ships(capsys):
    assert cli.main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    for name in SHIPPED:
        assert name in printed
    assert "Nothing is downloaded" in printed


def test_groups_of_classes():
    assert commands.groups("0,2/1") == [["0", "2"], ["1"]]
    assert commands.groups(None) is None
