"""The bundled sample: photographs drawn by code, for the demo, tests and benchmarks."""
