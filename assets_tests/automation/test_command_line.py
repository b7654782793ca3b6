"""How `dagster asset materialize` ends: what failed is the last line, also for what Dagster answers with a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.assets.homes import Home
from deblend_assets.automation.command_line import Request, check_request, explanation, materialize_request
from deblend_assets.automation.outcome import RunOutcome
from deblend_assets.definitions import build_defs
from deblend_assets.errors import SettingsError
from deblend_assets.partitions import TILES
from deblend_assets.settings import PROFILE_FOLDER, Profile

SHARDS = "train_000, train_001, train_002, train_003, validation_000, test_000, test_001"


@pytest.fixture
def smoke_definitions(profile: Profile) -> dg.Definitions:
    return build_defs(profile)


@pytest.fixture
def opened() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


REQUESTS = {
    "a shard that the profile does not have": (
        Request("group:simulation", None, "train_000...test_003"),
        f"no partition test_003; the partitions of this profile are {SHARDS} "
        "[--partition-range train_000...test_003]: use --partition-range train_000...test_001",
    ),
    "a tile that is not registered": (
        Request("group:des", "DES0449-4706", None),
        "no partition DES0449-4706; registered tiles are DES1200+6000 [--partition DES0449-4706]: ",
    ),
    "a field that is not registered": (
        Request("fields/field_images", "mine", None),
        "no partition mine; no field is registered [--partition mine]: give one field as --partition NAME; "
        "`deblend_assets fields add` registers it",
    ),
    "a range of tiles": (Request("group:des", None, "DES1200+6000...DES1200+6000"), "is not a range of partitions"),
    "two dots": (Request("simulated/truth", None, "train_000..test_001"), "is not a range of partitions"),
    "no partition": (
        Request("simulated/truth", None, None),
        f"and none is named; the partitions of this profile are {SHARDS}",
    ),
    "no tile": (Request("des/des_cutouts", None, None), "and none is named; registered tiles are DES1200+6000"),
    "a partition of what has none": (
        Request("simulation/galaxy_catalog", "train_000", None),
        "none of the selected assets has partitions [--partition]: leave this option out",
    ),
    "tiles and shards": (Request("group:des,group:simulation", "train_000", None), "do not have the same partitions"),
    "a misspelt asset": (Request("simulation/galaxy_catalo", None, None), '"galaxy_catalog"'),
    "a group that is not there": (Request("group:nonesuch", None, None), "no asset matches 'group:nonesuch'"),
}


@pytest.mark.parametrize("fault", REQUESTS)
def test_a_request_that_cannot_be_met_is_one_line_that_names_what_exists(
    smoke_definitions: dg.Definitions, opened: dg.DagsterInstance, fault: str
) -> None:
    opened.add_dynamic_partitions(str(TILES.name), ["DES1200+6000"])
    request, words = REQUESTS[fault]
    with pytest.raises(SettingsError) as refused:
        check_request(request, smoke_definitions, opened)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "request_",
    [
        Request("group:simulation or group:training", None, "train_000...test_001"),
        Request("group:des", "DES1200+6000", None),
        Request("simulation/galaxy_catalog", None, None),
    ],
)
def test_a_request_that_can_be_met_is_not_refused(
    smoke_definitions: dg.Definitions, opened: dg.DagsterInstance, request_: Request
) -> None:
    opened.add_dynamic_partitions(str(TILES.name), ["DES1200+6000"])
    check_request(request_, smoke_definitions, opened)


@pytest.mark.parametrize("program", ["/x/bin/dagster", "/x/site-packages/dagster/__main__.py"])
def test_only_the_command_itself_is_recognised(program: str) -> None:
    options = ["--select", "a,b", "--partition-range=x...y", "-m", "deblend_assets.definitions"]
    assert materialize_request([program, "asset", "materialize", *options]) == Request("a,b", None, "x...y")
    assert materialize_request([program, "asset", "materialize", "--select"]) == Request("", None, None)
    assert materialize_request([program, "dev"]) is None
    assert materialize_request(["/x/bin/pytest", "asset", "materialize"]) is None


def test_an_error_of_ours_is_its_own_line_wherever_it_stands_in_the_chain_and_a_bug_keeps_its_trace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = SettingsError("this is wrong", where="here", remedy="do that")
    wrapped = RuntimeError("Dagster's own")
    wrapped.__cause__ = ours
    request = Request("simulation/galaxy_catalog", None, None)
    assert explanation(wrapped, request, lambda: None) == "this is wrong [here]: do that"
    assert explanation(TypeError("a bug"), request, lambda: None) is None
    assert explanation(KeyboardInterrupt(), request, build_defs) is None
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert explanation(TypeError("a bug"), request, build_defs) is None, "nothing is wrong with the request"


def test_lines_of_a_run_are_warnings_then_failed_checks_then_errors() -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec(name, asset="made") for name in ("grave", "slight", "right")])
    def made() -> dg.MaterializeResult:
        severities = {"grave": dg.AssetCheckSeverity.ERROR, "slight": dg.AssetCheckSeverity.WARN}
        results = [
            dg.AssetCheckResult(
                passed=name == "right",
                check_name=name,
                severity=severities.get(name, dg.AssetCheckSeverity.ERROR),
                description=f"{name}ly\nso",
                metadata={"slope": -0.98, "galaxies": 38},
            )
            for name in ("grave", "slight", "right")
        ]
        return dg.MaterializeResult(check_results=results)

    @dg.asset(deps=[made])
    def failing() -> None:
        raise dg.Failure("this is wrong [here]: do that", allow_retries=False)

    @dg.asset
    def broken() -> None:
        raise TypeError("a bug\nof two lines")

    outcome = RunOutcome()
    result = dg.materialize([made, failing, broken], raise_on_error=False)
    for event in result.all_events:
        outcome.add(event, None)
    assert outcome.lines() == [
        "warning: made slight: slightly so; slope -0.98, galaxies 38",
        "check failed: made grave: gravely so; slope -0.98, galaxies 38",
        *sorted(["error: broken failed: TypeError: a bug", "error: failing failed: this is wrong [here]: do that"]),
    ]


@pytest.mark.slow
def test_the_command_ends_with_the_error_of_a_failed_step_and_with_a_partition_that_is_not_there(
    tmp_path: Path,
) -> None:
    """Two processes side by side: the plain command of Dagster, as a user types it."""
    text = (PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8")
    stage = Home(tmp_path / "stage", "smoke", text, ["--select", "training/stage1_vae"])
    too_far = ["--select", "group:simulation", "--partition-range", "train_000...test_003"]
    shards = Home(tmp_path / "shards", "smoke", text, too_far)
    started = {home: home.materialize() for home in (stage, shards)}
    try:
        assert [run.wait(300) for run in started.values()] == [1, 1]
    finally:
        for home in started:
            home.end()
    last = stage.log().splitlines()[-1]
    assert last.startswith("error: training/stage1_vae failed: simulation/galaxy_catalog has not been materialised [")
    assert last.endswith("]: materialise simulation/galaxy_catalog first")
    log = shards.log()
    assert "Traceback" not in log
    assert log.splitlines()[-1].startswith("error: simulated/blended has no partition test_003; the partitions of this")
