"""Scripts of a page with all that they import: the browser asks for them at once, not for one after the other."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_IMPORTED = re.compile(r'^(?:import|export)\b[^;]*?from "\./([\w-]+\.js)";', re.MULTILINE)


@cache
def imported(script: str) -> tuple[str, ...]:
    """Modules that a script of ``static/`` needs, directly or not, those first that others need."""
    text = files("curation_assets.gallery").joinpath("static", script).read_text("utf-8")
    found = [module for name in _IMPORTED.findall(text) for module in (*imported(name), name)]
    return tuple(dict.fromkeys(found))


def script(name: str) -> str:
    """The elements of a page's head that load a script of ``static/``."""
    ahead = (f'<link rel="modulepreload" href="/static/{module}">\n' for module in imported(name))
    return "".join(ahead) + f'<script type="module" src="/static/{name}"></script>'
