from __future__ import annotations

import io


class Out(io.StringIO):
    def __init__(self, encoding, terminal):
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._terminal
