"""Which process of ``make test`` runs which tests."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController


class ModulesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Modules are handed out whole, as they share fixtures that take seconds, in the order of collection.

    So are several modules that use one Spark session or one filled lake.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = PurePosixPath(nodeid.partition("::")[0])
        if module.name == "test_spark.py" or module.parent.name == "spark":
            return "spark"
        return str(module.parent if module.parent.name == "gallery" else module)

    # Where a process crashed, the one that takes its place would wait for ever for more to do (pytest-xdist 3.8): if
    # what it is handed first is done already, and before the last test of all, which runs when the next one is known.

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a process; of what it was handed only modules that it didn't finish are handed out again."""
        handed = self.assigned_work[node]
        self.assigned_work[node] = {name: tests for name, tests in handed.items() if not all(tests.values())}
        crashed: str | None = super().remove_node(node)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        super()._reschedule(node)
        if not self.workqueue and not node.shutting_down:
            node.shutdown()
