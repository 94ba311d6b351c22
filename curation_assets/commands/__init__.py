"""The `curation` command's groups, one module each, and what they share. `curation_assets.cli` puts them together."""
