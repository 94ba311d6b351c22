"""Why one version of a dataset is otherwise than another."""
