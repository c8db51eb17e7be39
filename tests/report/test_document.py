"""Documents of every kind of source write their numbers for a reader."""

from __future__ import annotations

import re

from hpolab.report.document import document_of


def test_no_text_has_a_float_of_many_digits(page, tuned, comparison, swept):
    for source in (tuned, comparison, swept):
        for section in document_of(source).sections:
            for block in section.blocks:
                cells = [cell for row in getattr(block, "rows", ()) for cell in row]
                assert not re.findall(r"\d\.\d{9,}", " ".join(map(str, cells)))
