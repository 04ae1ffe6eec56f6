"""The sensor that ends runs whose process has died: always on, since a lost run keeps every other one waiting."""

import dagster as dg

from eo_assets.assets.alive import end_lost_runs


def lost_runs_sensor(project: str) -> dg.SensorDefinition:
    """`<project>_lost_runs`: looks at the instance every half a minute, and starts nothing."""

    @dg.sensor(
        name=f"{project}_lost_runs",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process on this machine has died. Starts nothing.",
        target=dg.AssetSelection.assets([project, "aoi"]),
    )
    def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        lost = end_lost_runs(context.instance)
        return dg.SkipReason(f"ended {', '.join(lost)}" if lost else "no run was lost")

    return lost_runs
