"""How problems are shown."""

from tritium.compat.config.problem import Problem, Stage, problem_of, render


def test_problem_shows_line_and_caret():
    """The offending line stands under the place and the message, with a caret and the hint under it."""
    problem = Problem(
        "m/config.pbtxt",
        3,
        1,
        14,
        'unknown field "max_batch_sise"',
        "did you mean max_batch_size?",
        "max_batch_sise: 64",
    )
    assert problem.render() == (
        'm/config.pbtxt:3:1  unknown field "max_batch_sise"\n'
        "    3 | max_batch_sise: 64\n"
        "      | ^^^^^^^^^^^^^^ did you mean max_batch_size?"
    )


def test_problem_of_a_folder_is_one_line():
    """Without a place there is nothing to point at."""
    problem = problem_of("repo/bert/", "no version folder", "mkdir 1")
    assert problem.render() == "repo/bert/  no version folder      hint: mkdir 1"


def test_caret_stands_under_its_place_behind_tabs():
    """Tabs before the place are repeated, so that any tab width fits."""
    assert Problem("f", 1, 4, 1, "m", "", "\t[ x ]").render().splitlines()[2] == "      | \t  ^"


def test_long_line_is_cut_around_the_place():
    """A file on one line of a thousand characters still shows the place."""
    line = "a" * 500 + "BAD" + "b" * 500
    shown, caret = Problem("f", 1, 501, 3, "m", "", line).render().splitlines()[1:]
    assert len(shown) < 180
    assert shown[caret.index("^") : caret.rindex("^") + 1] == "BAD"


def test_problems_come_in_order_and_warnings_say_so():
    """Problems are sorted by file and line; a warning is marked as one."""
    second, first = problem_of("b", "x", stage=Stage.WARNING), problem_of("a", "y")
    assert render([second, first]) == "a  y\nb  warning: x"
    assert first.fatal
    assert not second.fatal
