"""Making the tables: empty, with their columns, partitioned by date."""

from pathlib import Path

from deltalake import DeltaTable

from kixo.files import make_folder, sync_file, sync_folder
from kixo.lake.format import check_format, write_format
from kixo.lake.schema import PARTITION_COLUMN, TABLES, Table

# We write checkpoints, clean the log and delete files ourselves, so that all is durable and bounded. Checkpoints name
# each file that went within the last property's time; a day of them would make every checkpoint slower.
PROPERTIES = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 10 minutes",
}


def create_tables(lake: Path) -> None:
    """Makes the tables that are not there; raises `DataFolderError` where the lake is of a newer version."""
    make_folder(lake)
    check_format(lake)
    write_format(lake)
    for table in TABLES:
        create_table(lake, table)


def create_table(lake: Path, table: Table) -> bool:
    """Makes one empty table, durably, and tells whether it was not there."""
    folder = lake / table.name
    first = folder / "_delta_log" / "00000000000000000000.json"
    # A crash while the first entry was written leaves it empty; later entries never are, see `kixo.lake.commit`.
    if DeltaTable.is_deltatable(str(folder)) and not (first.exists() and first.stat().st_size == 0):
        return False
    first.unlink(missing_ok=True)
    make_folder(first.parent)
    DeltaTable.create(
        folder, table.schema, partition_by=PARTITION_COLUMN, description=table.sentence, configuration=PROPERTIES
    )
    sync_file(first)
    for path in (first.parent, folder, lake):
        sync_folder(path)
    return True
