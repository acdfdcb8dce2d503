"""The error for a name that does not exist proposes the one that was meant."""

from neon_sim.names import nearest


def test_a_slip_gets_the_right_proposal_and_the_whole_list() -> None:
    error = nearest("task", "recah", ["push", "reach"])
    assert isinstance(error, ValueError)
    assert str(error) == "Unknown task 'recah'. Did you mean 'reach'? Valid: push, reach."


def test_case_and_spaces_do_not_hide_the_match() -> None:
    assert "Did you mean 'HorizonNoop'?" in str(nearest("task", " HORIZONNOPP", ["HorizonNoop"]))
    assert "Did you mean 'reach'?" in str(nearest("task", "REACH", ["push", "reach"]))


def test_nothing_close_gets_no_proposal() -> None:
    assert str(nearest("sensor", "xyz", ["camera"])) == "Unknown sensor 'xyz'. Valid: camera."


def test_other_things_than_names_are_shown_as_they_are() -> None:
    assert str(nearest("sensor", 3, ["camera"])) == "Unknown sensor 3. Valid: camera."
    assert str(nearest("sensor", None, [])) == "Unknown sensor None. Valid: none exist yet."
