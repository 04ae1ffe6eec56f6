"""What the graph stands on: object store, committed outputs, IO managers, Sentinel Hub and Ray.

Knows no stage and no asset.
"""
