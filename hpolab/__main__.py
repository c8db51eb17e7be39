"""``python -m hpolab`` is ``hpolab``."""

from hpolab.cli import app

app()
