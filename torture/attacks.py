"""The attacks there are, by name. To add one, write a module and a line here."""

from collections.abc import Callable
from typing import NamedTuple

from torture.clocks import step_clocks
from torture.cluster.commits import kill_in_commits
from torture.cluster.disk import fill_disks
from torture.cluster.kills import kill_parts
from torture.cluster.network import cut_networks
from torture.cluster.pauses import pause_parts
from torture.cluster.quiet import run_quietly
from torture.cluster.upgrade import upgrade_all
from torture.duplicates import repeat_everything
from torture.faults import fail_calls
from torture.flood import flood_large, flood_small
from torture.full import fill_ext4, fill_tmpfs
from torture.gone import lose_lake, lose_log
from torture.hostile import attack_with_hostile_clients
from torture.kills import kill_at_random
from torture.points import kill_at_points
from torture.power import cut_power
from torture.registry import kill_in_registry
from torture.tails import damage_log
from torture.trial import Orders
from torture.verdict import Verdict


class Attack(NamedTuple):
    """An attack: its name, what it does in a sentence, and how to run it; `short`: whether CI runs it, in little."""

    name: str
    sentence: str
    run: Callable[[Orders], Verdict]
    short: bool = True


ATTACKS: tuple[Attack, ...] = (
    Attack("kill", "`kill -9` of each process and of all at once, SIGSTOP and SIGTERM, at random.", kill_at_random),
    Attack("points", "`kill -9` before and after each call that makes something durable.", kill_at_points),
    Attack("clocks", "The server's clock stepped back and forth, devices' clocks days off.", step_clocks),
    Attack("duplicates", "All sent again after merges, restarts, and loss of the index.", repeat_everything),
    Attack("registry", "`kixo key create` and `revoke` killed in the middle of their writes.", kill_in_registry, False),
    Attack("power", "Power cuts: starts from what a file system may have kept of a recorded run.", cut_power),
    Attack("faults", "Calls that fail under load, for log, lake and registry: EIO, ENOSPC, short.", fail_calls),
    Attack("full-ext4", "The disk full, and free again, on a real ext4; as root.", fill_ext4, short=False),
    Attack("full-tmpfs", "The disk full, and free again, on a tmpfs; as root.", fill_tmpfs, short=False),
    Attack("lake-gone", "The lake moved away and back, then deleted, under load.", lose_lake, short=False),
    Attack("log-gone", "The log moved away and back, then deleted, under load.", lose_log, short=False),
    Attack("tails", "A log cut at every byte, and with every byte changed.", damage_log),
    Attack(
        "hostile", "Bombs, silence, nonsense and floods of objects beside good clients.", attack_with_hostile_clients
    ),
    Attack("flood", "One project floods with small requests, another one behaves.", flood_small, short=False),
    Attack("flood-large", "The same with requests of a thousand events.", flood_large, short=False),
    Attack("cluster-quiet", "Nothing, to a cluster of several machines' parts.", run_quietly, short=False),
    Attack("cluster-kill", "`kill -9` of brokers, leaders, nodes, services, and of all at once.", kill_parts),
    Attack("cluster-commit", "Loaders killed at chosen requests to S3, answers lost.", kill_in_commits, short=False),
    Attack("cluster-pause", "Parts that stand still for up to 30 s and go on.", pause_parts, short=False),
    Attack("cluster-network", "Networks cut between parts and healed; as root.", cut_networks, short=False),
    Attack("cluster-upgrade", "A rolling upgrade of every part under traffic.", upgrade_all, short=False),
    Attack("cluster-disk", "Disks of one and two brokers full, and free again; as root.", fill_disks, short=False),
)
