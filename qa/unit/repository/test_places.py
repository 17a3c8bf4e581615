"""Which folders are repositories, as a server sees them; `tritium check` has the same in qa/golden/broken."""

from pathlib import Path

import pytest

from tritium.repository.places import find_places


@pytest.mark.parametrize("layout", ["config.pbtxt", "1/model.py", "2/model.json"])
def test_the_folder_of_one_model_is_no_repository(tmp_path, layout):
    """What one model's folder holds is not taken for models; its parent is what is to be served."""
    file = tmp_path / "models" / "scale" / layout
    file.parent.mkdir(parents=True)
    file.touch()
    places = find_places([tmp_path / "models" / "scale"])
    assert places.models == {}
    [problem] = places.problems
    assert problem.fatal
    assert problem.message == "is the folder of one model, not a repository"
    assert problem.hint == f"serve its parent {tmp_path / 'models'}"
    assert find_places([tmp_path / "models"]).problems == []


@pytest.mark.parametrize(
    ("given", "meant"), [("modles", "models"), ("mdels", "models"), ("data", ""), ("docks-of-data", "")]
)
def test_only_a_folder_of_nearly_the_same_name_was_meant(tmp_path, given, meant):
    """Letters that are swapped or missing; not any folder that happens to be there."""
    for name in ("models", "dates", "docs"):
        (tmp_path / name).mkdir()
    [problem] = find_places([tmp_path / given]).problems
    assert problem.hint == (f"did you mean {tmp_path / meant}?" if meant else f"there is no '{given}' in {tmp_path}")


def test_a_version_is_no_repository(tmp_path):
    """Two levels too deep, the repository is two levels up; a model may be called like a version all the same."""
    (tmp_path / "models" / "scale" / "1" / "weights").mkdir(parents=True)
    (tmp_path / "models" / "scale" / "1" / "model.json").touch()
    [problem] = find_places([tmp_path / "models" / "scale" / "1"]).problems
    assert problem.message == "is a version of one model, not a repository"
    assert problem.hint == f"serve {tmp_path / 'models'}"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "1").symlink_to(tmp_path / "models" / "scale" / "1", target_is_directory=True)
    assert find_places([tmp_path / "linked"]).problems[0].message == "is the folder of one model, not a repository"
    (tmp_path / "numbers" / "7" / "1").mkdir(parents=True)
    (tmp_path / "numbers" / "7" / "1" / "model.py").touch()
    (tmp_path / "numbers" / "7" / "config.pbtxt").touch()
    assert list(find_places([tmp_path / "numbers"]).models) == ["7"]


def test_the_parent_of_the_current_folder_has_a_name(tmp_path, monkeypatch):
    """Serving `.` inside a model's folder names the parent in full."""
    (tmp_path / "config.pbtxt").touch()
    monkeypatch.chdir(tmp_path)
    assert find_places([Path()]).problems[0].hint == f"serve its parent {tmp_path.parent}"


def test_a_repository_may_be_reached_by_two_ways(tmp_path, house):
    """A link to a repository that is served already adds nothing but a warning."""
    house.write("m")
    link = tmp_path / "again"
    link.symlink_to(house.path, target_is_directory=True)
    found = house.registry(repositories=(house.path, link)).survey()
    assert list(found.candidates) == ["m"]
    assert found.duplicates == set()
    assert [(problem.path, problem.fatal) for problem in found.problems] == [(str(link), False)]


async def test_an_empty_repository_is_served(house):
    """Without a model a server is ready, all it has is loaded, and a model that is asked for is not found."""
    registry = house.registry()
    found = registry.survey()
    assert [(problem.message, problem.fatal) for problem in found.problems] == [(f"no models in {house.path}", False)]
    await registry.start(found)
    assert registry.ready
    assert registry.all_loaded
