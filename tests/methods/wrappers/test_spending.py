"""Money is counted before it is spent, by whoever shares the ledger."""

import json
import threading
import time

import pytest

from idbench.methods.wrappers.pacing import Pace, backoff, retry_after
from idbench.methods.wrappers.spending import CeilingError, Spending, spent_in


def lines(ledger):
    return [json.loads(line)["cost"] for line in ledger.read_text().splitlines()]


def test_a_call_is_written_down_before_it_goes_out(tmp_path):
    ledger = tmp_path / "spending.jsonl"
    reservation = Spending(price=0.5, ledger=ledger).reserve()
    assert lines(ledger) == [0.5]  # a kill now counts it
    reservation.release()
    reservation.release()
    assert lines(ledger) == [0.5, -0.5]
    assert spent_in(ledger) == 0.0


def test_the_count_goes_on_in_the_next_process(tmp_path):
    ledger = tmp_path / "deep" / "spending.jsonl"
    Spending(price=0.1, ceiling=0.3, ledger=ledger).reserve()
    Spending(price=0.1, ceiling=0.3, ledger=ledger).reserve()
    last = Spending(price=0.1, ceiling=0.3, ledger=ledger)
    last.reserve()  # 0.1 + 0.1 + 0.1 is more than 0.3 in binary
    with pytest.raises(CeilingError, match=r"0\.3000 of 0\.3000 are spent.*costs 0\.1000"):
        last.reserve()


def test_many_who_share_a_ledger_do_not_pass_the_ceiling_together(tmp_path, monkeypatch):
    count = Spending._total

    def slowly(self):
        found = count(self)
        time.sleep(0.002)  # time for another to spend what was counted as free
        return found

    monkeypatch.setattr(Spending, "_total", slowly)
    ledger = tmp_path / "spending.jsonl"
    made, refused = [], []

    def spend():
        own = Spending(price=1.0, ceiling=20.0, ledger=ledger)
        for _ in range(10):
            try:
                own.reserve()
                made.append(1)
            except CeilingError:
                refused.append(1)

    threads = [threading.Thread(target=spend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (20, 40)
    assert spent_in(ledger) == 20.0


def test_half_a_line_of_a_killed_process_is_written_over(tmp_path):
    ledger = tmp_path / "spending.jsonl"
    ledger.write_text('{"cost": 1.0}\n{"co')
    own = Spending(price=1.0, ledger=ledger)
    assert own.total() == 1.0
    own.reserve()
    assert lines(ledger) == [1.0, 1.0]


def test_a_damaged_ledger_is_not_counted_with(tmp_path):
    ledger = tmp_path / "spending.jsonl"
    ledger.write_text('{"cost": 1.0}\n{"cost": "much"}\n')
    with pytest.raises(ValueError, match=r"spending\.jsonl, line 2: not a cost"):
        Spending(price=1.0, ledger=ledger)


def test_without_a_price_nothing_is_written(tmp_path):
    ledger = tmp_path / "spending.jsonl"
    Spending(price=0.0, ledger=ledger).reserve()
    assert not ledger.exists()
    assert spent_in(ledger) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_in_seconds(value, seconds):
    assert retry_after(value) == seconds


def test_retry_after_as_a_date():
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9


def test_waits_grow_and_have_an_end():
    for attempt, whole in ((0, 1.0), (1, 2.0), (4, 16.0), (60, 300.0)):
        assert 0.5 * whole <= backoff(attempt, 1.0) <= whole


def test_a_pause_holds_those_who_wait_already():
    pace, stop, order = Pace(per_minute=1200), threading.Event(), []
    pace.wait(stop)
    pace.pause(0.3)
    thread = threading.Thread(target=lambda: (pace.wait(stop), order.append("through")))
    thread.start()
    thread.join(0.15)
    assert order == []
    thread.join(5)
    assert order == ["through"]


def test_who_waits_is_let_go_when_all_is_over():
    pace, stop = Pace(), threading.Event()
    pace.pause(60)
    thread = threading.Thread(target=pace.wait, args=(stop,))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
