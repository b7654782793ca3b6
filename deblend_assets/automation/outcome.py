"""The end of a run: the errors of its failed steps and its failed checks, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from deblend_assets.automation.dagster_internals import (
    PARTITION_NAME_TAG,
    ExecutionPlan,
    PlanOrchestrationContext,
    RetryMode,
)

_NUMBERS = 4  # of a check, on its line


@dataclass
class RunOutcome:
    """Errors and failed checks of the runs that this process has executed.

    Attributes:
        errors: one line for each failed step, or for the run itself where it failed before its first step.
        failed_checks: one line for each failed check of severity ERROR.
        warnings: one line for each failed check of severity WARN.
    """

    errors: list[str] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add_check(self, check: dg.AssetCheckEvaluation, partition: str | None) -> None:
        """Note a failed check."""
        lines = self.failed_checks if check.severity == dg.AssetCheckSeverity.ERROR else self.warnings
        lines.append(check_line(check, partition))

    def add(self, event: dg.DagsterEvent, partition: str | None) -> None:
        """Note the event where it is a failure.

        Args:
            event: of a run.
            partition: of the run; none: it has none, or a range of them.
        """
        data: Any = event.event_specific_data
        if event.is_step_failure:
            step = (event.step_key or "").replace("__", "/")
            words = data.user_failure_data.description if data.user_failure_data else None
            self.errors.append(f"{step} failed: {words or _first_line(data.error)}")
        elif event.event_type == dg.DagsterEventType.RUN_FAILURE and not self.errors:
            self.errors.append(f"the run failed: {_first_line(getattr(data, 'error', None))}")
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION and not data.passed:
            self.add_check(data, partition)

    def lines(self) -> list[str]:
        """Warnings, failed checks, errors: the gravest last."""
        return [
            *(f"warning: {line}" for line in self.warnings),
            *(f"check failed: {line}" for line in self.failed_checks),
            *(f"error: {line}" for line in self.errors),
        ]


def check_line(check: dg.AssetCheckEvaluation, partition: str | None = None) -> str:
    """Asset, name, finding and first numbers of a check."""
    values = {name: entry.value for name, entry in check.metadata.items()}
    numbers = [f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, int | float)]
    finding = [" ".join((check.description or "").split()), ", ".join(numbers[:_NUMBERS])]
    where = check.partition or partition
    name = f"{check.asset_key.to_user_string()} {check.check_name}{f' of {where}' if where else ''}"
    words = "; ".join(part for part in finding if part)
    return f"{name}: {words}" if words else name


def _first_line(error: Any) -> str:
    """The message of the error at the root of a serialised chain, as one line."""
    if error is None:
        return "no error was reported; see the run's log above"
    while error.cause is not None:
        error = error.cause
    lines = [line for line in error.message.splitlines() if line.strip()]
    message = lines[0].strip() if lines else error.cls_name or "unknown error"
    return message.removeprefix(f"deblend_assets.errors.{error.cls_name}: ")


def check_lines(failed: Iterable[tuple[dg.AssetCheckEvaluation, str | None]]) -> list[str]:
    """Failed checks as the end of a run lists them.

    Args:
        failed: each with its partition, or none.
    """
    outcome = RunOutcome()
    for check, partition in failed:
        outcome.add_check(check, partition)
    return outcome.lines()


class RecordedExecutor(dg.Executor):
    """An executor whose events are noted in a `RunOutcome` as they pass.

    Args:
        steps: executes them, in this process or elsewhere.
        outcome: is added to.
    """

    def __init__(self, steps: dg.Executor, outcome: RunOutcome) -> None:
        self._steps, self._outcome = steps, outcome

    @property
    def retries(self) -> RetryMode:
        return self._steps.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._steps.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        partition = plan_context.dagster_run.tags.get(PARTITION_NAME_TAG)
        for event in self._steps.execute(plan_context, execution_plan):
            self._outcome.add(event, partition)
            yield event


# Of this process: what `command_line` prints at its end.
OUTCOME = RunOutcome()


def recorded(definition: dg.ExecutorDefinition, requirements: Sequence[Any] = ()) -> dg.ExecutorDefinition:
    """The executor with its events noted in `OUTCOME`; name and configuration stay.

    Args:
        definition: of the executor.
        requirements: of the executor, see `dagster.ExecutorDefinition`.
    """
    create = definition.executor_creation_fn
    assert create is not None
    return dg.ExecutorDefinition(
        definition.name,
        config_schema=definition.config_schema.as_field(),
        requirements=list(requirements),
        executor_creation_fn=lambda context: RecordedExecutor(create(context), OUTCOME),
    )
