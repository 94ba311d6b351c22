"""Which process of ``make test`` runs which tests."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling


class ModulesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Modules are handed out whole, as they share fixtures that take seconds, in the order of collection.

    So are several modules that use one Spark session or one filled lake.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = PurePosixPath(nodeid.partition("::")[0])
        if module.name == "test_spark.py" or module.parent.name == "spark":
            return "spark"
        return str(module.parent if module.parent.name == "gallery" else module)
