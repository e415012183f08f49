"""Whether this Kixo knows the formats of a data folder: asked before a command touches anything in it.

The data folder, the log, its segments, the lake and the registry each bear the number of their format. A part that is
newer than we know is refused as it is. What is derived or lives only as long as a server bears its format too, and
is made anew where it is another: the index of identities, the metric files and the rate limits.
"""

from kixo.lake.format import check_format as check_lake
from kixo.lake.local import LocalLake
from kixo.layout import Layout
from kixo.log.folder import check_format as check_log


def check_formats(layout: Layout) -> None:
    """Raises `DataFolderError` where a newer Kixo wrote the data folder, its log or its lake.

    The registry, which not every command needs, is checked when it is opened.
    """
    layout.check_format()
    check_log(layout.log)
    check_lake(LocalLake(layout.lake))
