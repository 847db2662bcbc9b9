"""Signals that ask to end: the first decides the exit code, and nothing stays installed."""

import signal
import subprocess
import sys
import threading

import pytest

from hdjax.signals import CODES, Signals


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 75),
        (signal.SIGUSR1, 75),
        (signal.SIGHUP, 75),
        (signal.SIGXCPU, 75),
    ],
)
def test_the_first_signal_decides_the_exit_code(number, code):
    before = {each: signal.getsignal(each) for each in CODES}
    with Signals() as signals:
        assert signals.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signals.received == [number, signal.SIGINT]
        assert signals.exit_code == code
    assert {each: signal.getsignal(each) for each in CODES} == before


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Signals():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_first_signal_waits_for_what_is_held_and_a_second_one_does_not():
    with Signals() as signals:
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
        assert signals.received == [signal.SIGTERM]
        with Signals() as others:
            with others.held():
                signal.raise_signal(signal.SIGUSR1)
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            assert others.exit_code == 75
        # Outside of the block signals raise again.
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_an_ignored_signal_is_left_alone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signals.received == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_install_nothing():
    """Python lets the main thread alone set handlers."""
    found = []

    def work():
        with Signals() as signals:
            found.append((signal.getsignal(signal.SIGTERM), signals.exit_code))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, 130)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_the_process_ends_at_once(number, code):
    """Also where KeyboardInterrupt is caught, and with nothing but a line."""
    script = f"""
import signal
from hdjax.signals import end_at_once
signal.signal(signal.SIGINT, signal.default_int_handler)
end_at_once()
try:
    signal.raise_signal({int(number)})
except BaseException:
    print("caught")
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == code
    assert (done.stdout, done.stderr) == ("", "interrupted: nothing was finished\n")
