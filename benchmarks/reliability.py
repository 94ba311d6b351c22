"""A lake in a store that something goes wrong with: what is lost or doubled after many faults, and after many kills.

    python -m benchmarks.reliability [--faults N] [--kills N] [--seed N] [--save]

The store is moto's S3 server in a process of its own (``curation_assets_tests/stores/s3_server.py``), whose answers are
late, reset, refused, torn, out of date or lost. Needs the ``dev`` packages. What was done is kept in
``reliability.json`` of the working directory after each seed, and the next call goes on there. ``--save`` writes
``docs/reliability.md``'s numbers: ``benchmarks/results/reliability.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks import measure

MODULE = "benchmarks.reliability"
PACKAGES = ("obstore", "deltalake", "polars", "pyarrow", "moto")
STATE = Path("reliability.json")
FAULTS_A_SEED, KILLS_A_SEED = 50, 5


def main() -> None:
    """Go on until so many faults and kills were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the first part; each further one has the next")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/reliability.md")
    arguments = parser.parse_args()
    done = json.loads(STATE.read_text()) if STATE.exists() else []
    for kind, wanted in (("faults", arguments.faults), ("kills", arguments.kills)):
        while (met := sum(_met(one) for one in done if one["kind"] == kind)) < wanted:
            seed = arguments.seed + sum(one["kind"] == kind for one in done)
            done.append({"kind": kind, "seed": seed} | _part(kind, seed))
            STATE.write_text(json.dumps(done, indent=1))
            print(
                f"{kind}: {met + _met(done[-1])} of {wanted}, wrong: {sum(len(one['wrong']) for one in done)}",
                flush=True,
            )
    report = "\n".join([*_table(done), *measure.circumstances(MODULE, PACKAGES)])
    print(report)
    if arguments.save:
        measure.save(report, "reliability")
        STATE.unlink()


def _part(kind: str, seed: int) -> dict[str, object]:
    """One small lake, in a bucket of its own."""
    from curation_assets_tests.stores.reliability import meet_faults, meet_kills, small_lake
    from curation_assets_tests.stores.s3_server import s3_server

    with tempfile.TemporaryDirectory() as folder, s3_server() as store:
        store.bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        store.client.create_bucket(Bucket=store.bucket)
        settings = small_lake(store, Path(folder))
        if kind == "faults":
            told = meet_faults(settings, store, seed, FAULTS_A_SEED)
        else:
            told = meet_kills(settings, seed, KILLS_A_SEED)
        return vars(told) | {"faults": dict(told.faults)}


def _met(part: dict[str, object]) -> int:
    return sum(part["faults"].values()) if part["kind"] == "faults" else part["kills"]  # type: ignore[attr-defined,return-value]


def _table(done: list[dict[str, object]]) -> list[str]:
    faults: Counter[str] = Counter()
    for part in done:
        faults.update(part["faults"])  # type: ignore[arg-type]

    def total(kind: str, of: Callable[[dict[str, object]], int]) -> int:
        return sum(of(part) for part in done if part["kind"] == kind)

    lines = ["# Faults and kills of a lake in a store", ""]
    lines += ["| | parts (seeds) | rounds | met | runs that ended in a line | lost, doubled, tracebacks |"]
    lines += ["|---|---|---|---|---|---|"]
    for kind in ("faults", "kills"):
        numbers = [total(kind, lambda _: 1), total(kind, lambda part: part["rounds"]), total(kind, _met)]  # type: ignore[arg-type,return-value]
        numbers += [total(kind, lambda part: part["ended"]), total(kind, lambda part: len(part["wrong"]))]  # type: ignore[arg-type,return-value]
        lines.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
    lines += ["", "Faults by kind: " + ", ".join(f"{kind} {count}" for kind, count in faults.most_common()) + ".", ""]
    return lines + [f"- {line}" for part in done for line in part["wrong"]]  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
