"""The demo: one real Sentinel-2 scene and OpenStreetMap polygons of the same place, through the whole graph."""
