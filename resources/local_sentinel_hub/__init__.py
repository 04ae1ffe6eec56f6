"""A Sentinel Hub on this machine: OAuth, Process, Batch V2, Catalog and BYOC, evalscripts on V8. Knows no project."""
