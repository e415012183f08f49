"""Which lake the settings mean."""

from pathlib import Path

from msgspec import json

from kixo.lake.local import LocalLake
from kixo.lake.objects import open_objects
from kixo.lake.s3_access import s3_access
from kixo.lake.store import LakeStore
from kixo.layout import Layout
from kixo.places import FolderPlace, S3Place, lake_place
from kixo.settings import Settings


def open_lake(settings: Settings) -> LakeStore:
    """The lake of the settings, which need not be there yet. Raises `BadSetting`.

    Where the log is on other machines, loaders may be too, and the lake has many writers.
    """
    place = lake_place(settings.lake)
    if isinstance(place, S3Place):
        return open_objects(place, s3_access(settings))
    folder: Path = place.path if isinstance(place, FolderPlace) else Layout(settings.data_dir).lake
    return LocalLake(folder, has_many_writers=bool(settings.log))


def reopen(argument: str) -> LakeStore:
    """The lake whose `argument` this is. Raises `BadSetting`."""
    if argument.startswith("{"):
        place = json.decode(argument, type=dict[str, str])
        return open_lake(Settings(lake=place["lake"], s3_endpoint=place["s3_endpoint"], s3_region=place["s3_region"]))
    return LocalLake(Path(argument))
