"""A Spark session of the settings, and units of work carried out on its executors; no images, tables or models."""
