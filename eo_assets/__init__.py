"""Wall-to-wall maps from satellite time series, as a Dagster asset graph on Ray."""
