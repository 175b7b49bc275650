"""Guessing passwords is slow, and nobody can lock a person out of the browser that they use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotate.models import SignInTry
from annotate.services import throttle
from annotate.services.throttle import TooManyTries, admit, remember, succeeded

HERE, ELSEWHERE = "192.0.2.7", "198.51.100.9"


@pytest.fixture
def clock(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[datetime]]:
    """The time, to be moved."""
    now = [timezone.now()]
    monkeypatch.setattr(throttle.timezone, "now", lambda: now[0])
    return now  # type: ignore[return-value]


def fail(times: int, *, name: str = "bob", address: str = HERE, browser: str = "") -> None:
    for _ in range(times):
        admit(name=name, address=address, browser=browser)


def test_five_failures_from_one_address_make_the_sixth_try_wait(clock: list[datetime]) -> None:
    fail(5)
    with pytest.raises(TooManyTries) as refusal:
        fail(1)
    assert refusal.value.wait == timedelta(minutes=15)


def test_the_wait_ends_15_minutes_after_the_oldest_counted_failure(clock: list[datetime]) -> None:
    fail(1)
    clock[0] += timedelta(minutes=10)
    fail(4)
    with pytest.raises(TooManyTries) as refusal:
        fail(1)
    assert refusal.value.wait == timedelta(minutes=5)
    clock[0] += timedelta(minutes=5, seconds=1)
    fail(1)
    with pytest.raises(TooManyTries):
        fail(1)


def test_a_try_that_had_to_wait_does_not_make_the_wait_longer(clock: list[datetime]) -> None:
    fail(5)
    for _ in range(20):
        clock[0] += timedelta(seconds=30)
        with pytest.raises(TooManyTries):
            fail(1)
    clock[0] += timedelta(minutes=5, seconds=1)
    fail(1)


def test_failures_from_one_address_leave_the_account_open_from_others(clock: list[datetime]) -> None:
    fail(5)
    fail(1, address=ELSEWHERE)


def test_an_account_is_guarded_against_guesses_from_many_addresses(clock: list[datetime]) -> None:
    for number in range(50):
        fail(1, address=f"203.0.113.{number}")
    with pytest.raises(TooManyTries):
        fail(1, address=ELSEWHERE)
    fail(1, name="alice", address=ELSEWHERE)


def test_an_address_cannot_try_one_password_on_many_accounts(clock: list[datetime]) -> None:
    for number in range(50):
        fail(1, name=f"rater{number}")
    with pytest.raises(TooManyTries):
        fail(1, name="rater50")
    fail(1, name="rater50", address=ELSEWHERE)


def test_all_of_an_ipv6_network_counts_as_one_address(clock: list[datetime]) -> None:
    for number in range(5):
        fail(1, address=f"2001:db8:1:2::{number}")
    with pytest.raises(TooManyTries):
        fail(1, address="2001:db8:1:2:ffff::1")
    fail(1, address="2001:db8:1:3::1")


def test_a_browser_in_which_the_account_signed_in_is_not_locked_out_by_anybody(clock: list[datetime]) -> None:
    mine = remember(name="bob", browser="")
    for number in range(50):
        fail(1, address=f"203.0.113.{number}")
    for number in range(50):
        fail(1, name=f"rater{number}")
    succeeded(admit(name="Bob", address=HERE, browser=mine))


def test_such_a_browser_has_ten_tries_of_its_own(clock: list[datetime]) -> None:
    mine = remember(name="bob", browser="")
    fail(10, browser=mine)
    with pytest.raises(TooManyTries):
        fail(1, browser=mine)
    fail(1)


def test_a_browser_is_known_for_its_accounts_only_and_for_90_days(clock: list[datetime]) -> None:
    shared = remember(name="bob", browser=remember(name="alice", browser=""))
    for name in ("alice", "bob"):
        fail(6, name=name, browser=shared)
    fail(5, name="charlie", browser=shared)
    with pytest.raises(TooManyTries):
        fail(1, name="charlie", browser=shared)


@pytest.mark.parametrize("forged", ["x", "e30:1abc:def", "null", "é"])
def test_a_forged_cookie_counts_as_none(clock: list[datetime], forged: str) -> None:
    fail(5, browser=forged)
    with pytest.raises(TooManyTries):
        fail(1, browser=forged)


def test_a_success_forgives_one_s_own_failures_but_not_those_of_the_address(clock: list[datetime]) -> None:
    fail(4)
    succeeded(admit(name="bob", address=HERE))
    fail(5)
    for number in range(41):
        fail(1, name=f"rater{number}")
    with pytest.raises(TooManyTries):
        fail(1, name="rater41")


def test_names_that_django_takes_for_one_count_as_one(clock: list[datetime]) -> None:
    fail(3, name="bob")
    fail(2, name=" BOB ")
    with pytest.raises(TooManyTries):
        fail(1, name="ｂｏｂ")  # full-width letters


def test_neither_names_nor_addresses_are_stored(clock: list[datetime]) -> None:
    fail(1, name="bob-secret", address=HERE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(t::text, ' ') FROM annotate_signintry t")
        stored = cursor.fetchone()[0]
    assert "bob" not in stored
    assert HERE not in stored


def test_what_is_over_is_forgotten(clock: list[datetime]) -> None:
    fail(3)
    clock[0] += timedelta(minutes=16)
    fail(1, name="alice")
    assert SignInTry.objects.count() == 3  # alice's pair, account and address


@pytest.mark.django_db(transaction=True)
def test_tries_at_the_same_moment_are_counted_one_by_one() -> None:
    outcomes: list[bool] = []

    def attempt() -> None:
        try:
            admit(name="bob", address=HERE)
            outcomes.append(True)
        except TooManyTries:
            outcomes.append(False)
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True] * 5
