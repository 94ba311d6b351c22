from setuptools import setup

setup()  # everything stands in pyproject.toml; this file serves tools that still look for it
