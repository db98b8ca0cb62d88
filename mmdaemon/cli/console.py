"""The terminal: rich's, but a reader that goes away (`| head`) is told to `main` like any other."""

import rich.console


class Console(rich.console.Console):
    """rich would end the program with 1, which verbs use for answers."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
