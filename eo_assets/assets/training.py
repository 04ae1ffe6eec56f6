"""`training_data` and `model`: from the samples of all tiles to one model for all tiles."""

import json

import dagster as dg

from eo_assets.assets.area import tiles_of
from eo_assets.assets.model import make_model, read_metrics
from eo_assets.assets.model_card import importance_table, metrics_table
from eo_assets.assets.offset_check import offset_of_training, offset_spec
from eo_assets.assets.outputs import result
from eo_assets.assets.retention import let_go_after
from eo_assets.assets.reused_model import model_note
from eo_assets.assets.run_log import run_log
from eo_assets.assets.shared_outputs import noting_failure
from eo_assets.assets.training_data import TILES_FILE, make_training_data
from eo_assets.pools import pool
from eo_assets.project import LoadedProject
from eo_assets.stages.build import tile_store


def training_assets(loaded: LoadedProject) -> list[dg.AssetsDefinition]:
    """`training_data` and `model` of a project; a model that is trained elsewhere is made of nothing here."""
    prefix, store = loaded.project.name, tile_store(loaded)

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="table_io_manager",
        deps=[dg.AssetDep(dg.AssetKey([prefix, "samples"]), partition_mapping=dg.AllPartitionMapping())],
        kinds={"numpy"},
        check_specs=[offset_spec(prefix, "training_data")],
        pool=pool(prefix, "train"),
    )
    def training_data(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The samples of all tiles that have them as one table: features, labels, tile and ground block of each row."""
        with run_log(loaded, context), noting_failure(store, "training_data", "training_data"):
            record = make_training_data(loaded, store)
            let_go_after(["training_data"], loaded, store, tiles_of(store))
            tiles = set(json.loads(store.text(record, TILES_FILE)))
            return result(store, record, checks=[offset_of_training(loaded, store, tiles)])

    @dg.asset(
        key_prefix=prefix,
        group_name=prefix,
        io_manager_key="model_io_manager",
        deps=[training_data] if loaded.project.model.trained_here else [],
        kinds={"lightgbm"},
        pool=pool(prefix, "train"),
    )
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The model, trained on all but the held-out ground blocks and scored on those, with its signature and card.

        Or the one of another project or year, if it fits this one.
        """
        with run_log(loaded, context), noting_failure(store, "model", "model"):
            record = make_model(loaded, store)
            let_go_after(["model"], loaded, store, tiles_of(store))
            if note := model_note(loaded):
                context.log.warning(note)
            metrics = read_metrics(store, record)
            tables = {
                "scores": metrics_table(metrics["scores"]),
                "importances": importance_table(metrics["importances"]),
            }
            return result(store, record, {name: dg.MetadataValue.md(table) for name, table in tables.items()})

    return [training_data, model]
