"""The same photograph twice: hashes → candidates → pixels → pairs → groups; a module a step."""
