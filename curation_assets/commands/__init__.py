"""The `curation` command, one module a subject, and what they share. `curation_assets.cli` puts them together."""
