"""Delta tables: schemas, staged Parquet, one commit for every engine, reads. Nothing here knows of images or models."""
