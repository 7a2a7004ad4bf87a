"""The page's data, carried in the page: one archive that is the same for the same files."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can say
LEVEL = 9


def archive(files: Mapping[str, str]) -> str:
    """A zip file in base64. files: their texts by path."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as folder:
        for path, text in files.items():
            member = zipfile.ZipInfo(path, EPOCH)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            folder.writestr(member, text)
    return base64.b64encode(packed.getvalue()).decode()
