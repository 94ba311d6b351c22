"""Imported once by the server that forks test_kill's drivers: the libraries that take seconds and start no thread.

What has threads (polars, deltalake) each driver imports for itself: a lock that one of them held at the fork would
never be released in the copy.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import psutil
import transformers.models.clip.modeling_clip  # noqa: F401

import curation_assets.clip.encoder  # noqa: F401

assert psutil.Process().num_threads() == 1, "a process of several threads can't be forked safely"
