"""What is wrong with images: a module a subject, pure functions over frames and matrices; no Dagster, no output."""
