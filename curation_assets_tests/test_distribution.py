from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from curation_assets_tests.distribution import ModulesTogether

TESTS = ["a/test_1.py::one", "a/test_2.py::one", "a/test_2.py::two", "a/test_3.py::one", "a/test_3.py::two"]


class Process:
    """One of pytest-xdist's as its scheduler sees it: it runs a test when it knows of the next, or that none comes."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self._waiting: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self._waiting += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def run(self) -> int | None:
        return self._waiting.pop(0) if len(self._waiting) > 1 or (self._waiting and self.shutting_down) else None


def test_what_a_crashed_process_left_is_done_by_the_one_that_takes_its_place() -> None:
    option = SimpleNamespace(loadscopereorder=False, debug=False)
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: ["popen"] * 2)
    scheduler = ModulesTogether(config)
    first, second, third = (Process(name) for name in ("first", "second", "third"))

    def begin(process: Any) -> None:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, TESTS)

    def run_all_but(process: Any, left: str) -> list[str]:
        ran = []
        while (index := process.run()) is not None and TESTS[index] != left:
            ran.append(TESTS[index])
            scheduler.mark_test_complete(process, index)
        return ran

    begin(first)
    begin(second)
    scheduler.schedule()
    ran = run_all_but(second, "") + run_all_but(first, "a/test_3.py::two")
    assert sorted(ran) == TESTS[:4]
    assert second.shutting_down
    scheduler.remove_node(second)
    assert scheduler.remove_node(first) == "a/test_3.py::two"
    begin(third)
    scheduler.schedule()
    assert run_all_but(third, "") == ["a/test_3.py::two"]
    assert not scheduler.has_pending
