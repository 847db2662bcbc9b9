"""Programs that are compiled side by side, and run in a way that an interrupt can leave.

An interrupt during a call of XLA is delayed until the call ends.  Calls are therefore made in other
threads, because a wait for a thread can be interrupted.
"""

import concurrent.futures
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax

# Seconds between two looks at whether an interrupt has come.
_LOOK = 0.2

T = TypeVar("T")
Future = concurrent.futures.Future


class Programs:
    """Jitted functions, each compiled for the arguments of its first call.

    Attributes:
        seconds: the seconds spent on waiting for compilers ("compile"), and on each kind of
            execution.
    """

    def __init__(self) -> None:
        self._compiled: dict[Callable[..., Any], Future[Any]] = {}
        self.seconds = {"compile": 0.0, "simulate": 0.0, "limit": 0.0}

    def start(self, function: Any, *arguments: Any) -> None:
        """Begin to compile a function for the shapes of these arguments, in another thread."""
        if function not in self._compiled:
            begin = time.perf_counter()
            # Tracing happens in this thread, because another one would not have its settings, such
            # as those of `jax.enable_x64`.
            lowered = function.lower(*arguments)
            self._compiled[function] = in_thread(lambda: lowered.compile(_compiler_options()))
            self.seconds["compile"] += time.perf_counter() - begin

    def run(self, kind: str, function: Any, *arguments: Any) -> Future[Any]:
        """Wait until a function is compiled, and begin to run it in another thread.

        Args:
            kind: the entry of `seconds` to which the time of the run is added.
            function: the function.
            *arguments: its arguments.

        Returns:
            A future of the value of the function.
        """
        self.start(function, *arguments)
        program, begin = self._wait(function), time.perf_counter()

        def execute() -> Any:
            results = jax.block_until_ready(program(*arguments))
            self.seconds[kind] += time.perf_counter() - begin
            return results

        return in_thread(execute)

    def memory(self, function: Any) -> int:
        """The bytes that a function takes on a device: arguments, results and what is between.

        The compiler knows them, and nothing is run.  0 if it does not say, or if the compilation
        of the function was not begun.
        """
        if function not in self._compiled:
            return 0
        found = self._wait(function).compiled.memory_analysis()
        if found is None:
            return 0
        shared = found.alias_size_in_bytes
        held = found.argument_size_in_bytes + found.output_size_in_bytes - shared
        return held + found.temp_size_in_bytes

    def _wait(self, function: Any) -> Any:
        """The compiled function; the seconds of the wait are counted."""
        begin = time.perf_counter()
        program = wait_for(self._compiled[function])
        self.seconds["compile"] += time.perf_counter() - begin
        return program

    def forget(self, *functions: Any) -> None:
        """Forget the programs of some functions, because the shapes of their arguments change."""
        for function in functions:
            self._compiled.pop(function, None)


def _compiler_options() -> dict[str, bool]:
    """The options of XLA for the programs of the engine."""
    if jax.default_backend() == "cpu" and jax.__version_info__ < (0, 11):
        # XLA has two ways to make kernels there; the default one compiles 1.7 times as long, for
        # programs that run equally fast.
        return {"xla_cpu_use_fusion_emitters": False}
    return {}


def in_thread(work: Callable[[], T]) -> "Future[T]":
    """A future of the value of `work()`, which is computed in a thread of its own."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def wait_for(future: "Future[T]") -> T:
    """The value of a future; an interrupt ends the wait at once."""
    # The wait is repeated, because a signal that reaches another thread does not end it.
    while not concurrent.futures.wait([future], _LOOK).done:
        pass
    return future.result()
