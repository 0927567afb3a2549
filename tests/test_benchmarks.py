"""The smallest run of the benchmarks."""

import json

import pytest

from testproject.benchmarks import contenders, run


def test_a_run_measures_every_contender_and_those_with_a_cache_compile_nothing(tmp_path, capsys):
    found = tmp_path / "found.json"
    arguments = ["--corpus", "synthetic-20", "--quick", "--parts", "load", "--json", str(found)]
    assert run.main(arguments) == 0
    load = json.loads(found.read_text())["load"]
    assert load.keys() == {contender.key for contender in contenders.chosen(quick=True, only="")}
    compiled = {key: row["compiled"] for key, row in load.items()}
    assert compiled.pop(contenders.NONE) == 20
    assert set(compiled.values()) == {0}
    table = capsys.readouterr().out
    for contender in contenders.chosen(quick=True, only=""):
        assert f"| {contender.who} | {contender.where} |" in table


def test_an_unknown_part_is_named_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit):
        run.main(["--parts", "load,lunch"])
    assert "lunch; there are load, pages" in capsys.readouterr().err
