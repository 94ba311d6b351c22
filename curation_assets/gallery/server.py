"""From settings to a running gallery: on which address, for whom, and how it stops."""

from __future__ import annotations

import webbrowser

from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.serving.listening import config_of, is_loopback, listening, run, url_of
from curation_assets.settings import Settings

_STOP_SECONDS = 5


def tokens_of(settings: Settings) -> dict[str, str | None]:
    """Whose each token is that the gallery takes; None of the one that is everybody's.

    Raises:
        CurationError: it is a person's too.
    """
    tokens: dict[str, str | None] = {token.get_secret_value(): name for name, token in settings.gallery_tokens.items()}
    if settings.gallery_token is not None:
        shared = settings.gallery_token.get_secret_value()
        if shared in tokens:
            raise CurationError(
                f"the token of {tokens[shared]!r} in CURATION_GALLERY_TOKENS is CURATION_GALLERY_TOKEN too: it would "
                "not say who decides"
            )
        tokens[shared] = None
    return tokens


def serve(pipeline: Pipeline, *, host: str, port: int, open_browser: bool = False) -> None:
    """Serve a lake's gallery until SIGTERM or SIGINT; then finish what is at work, and return.

    A second SIGINT ends the process at once, with exit code 130.

    Args:
        host: name or address of this machine to listen on.
        port: 0 takes a free one; which is told on standard error.
        open_browser: show the gallery in the browser.

    Raises:
        CurationError: the address is taken, or it is open to other machines without a token.
    """
    settings = pipeline.settings
    tokens = tokens_of(settings)
    if not tokens and not is_loopback(host):
        raise CurationError(
            f"--host {host} lets other machines in, and there is no token: set CURATION_GALLERY_TOKEN (or a token for "
            "each person, CURATION_GALLERY_TOKENS), which visitors are then asked for, or leave --host at 127.0.0.1"
        )
    with listening(host, port) as listener:
        from curation_assets.gallery.app import create_app
        from curation_assets.gallery.gallery import Gallery

        app = create_app(Gallery(pipeline), tokens=tokens, hosts_checked=is_loopback(host))
        # httptools is quicker, and less strict: only for this machine's own user.
        config = config_of(app, _STOP_SECONDS, is_strict=not is_loopback(host))
        url = f"{url_of(listener)}/"
        if open_browser:
            webbrowser.open(url)  # it waits, as the socket listens already
        run(config, listener, f"gallery of {settings.lake_root} at {url}  (Ctrl-C stops it)")
