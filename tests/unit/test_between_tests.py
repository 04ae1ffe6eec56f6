"""What tests/conftest.py keeps from one test to the next: these run in the order of this file."""

import os


def test_one_leaves_the_home_of_an_instance_in_the_environment() -> None:
    os.environ["DAGSTER_HOME"] = "/somewhere"


def test_the_next_does_not_find_it() -> None:
    assert "DAGSTER_HOME" not in os.environ
