"""`kixo key` killed in the middle of its writes, while workers read the registry and clients send.

Afterwards the registry opens, every key whose command said so is there or is revoked, and every other key is one or the
other: what a command was killed over may have happened or not, never half.
"""

from kixo.bench.traffic import Credential
from torture.caller import Caller
from torture.installation import BUSY
from torture.shim import Plan, Rule, build, preload
from torture.trial import Orders, Trial
from torture.verdict import Verdict

KILLS, KILLS_SHORT = 60, 8
# In force within two seconds, says the contract; more, so that a slow machine is not taken for a broken promise.
IN_FORCE_S_MAX = 20.0
CALLS = ("write", "sync", "truncate", "unlink", "open")
CALLS_MAX = {"write": 8, "sync": 6, "truncate": 2, "unlink": 2, "open": 4}
LIVE, REVOKED, EITHER = "live", "revoked", "either"


def kill_in_registry(orders: Orders) -> Verdict:
    """`kixo key create` and `revoke` killed at each write, sync and truncation of the registry, under load."""
    tools = orders.tools()
    plan = Plan(tools / "plan")
    shim = {**preload(build(tools)), **plan.environment}
    with Trial("registry", orders, BUSY) as trial:
        trial.installation.start()
        keys: dict[str, str] = {}
        with trial.traffic.flowing():
            for number in range(orders.count(KILLS, KILLS_SHORT)):
                call = trial.dice.choice(CALLS)
                nth = trial.dice.randint(1, CALLS_MAX[call])
                action = trial.dice.choice(["kill-before", "kill-after"])
                plan.write(Rule(call, "*registry*", str(nth), action))
                _change(trial, shim, keys, number)
            began_s = trial.note("SIGKILL all")
            trial.installation.kill_all()
            trial.installation.start()
            trial.recover(began_s)
            _check(trial, keys)
        return trial.verdict()


def _change(trial: Trial, shim: dict[str, str], keys: dict[str, str], number: int) -> None:
    """Makes a key or revokes one, under the plan; what is then known of it."""
    live = [key for key, state in keys.items() if state == LIVE]
    project = trial.installation.credentials[0].project_id
    if live and trial.dice.random() < 0.4:
        key, wanted = trial.dice.choice(live), REVOKED
        words = ["revoke", key]
    else:
        key, wanted = f"kx_key_torture_{number:06d}", LIVE
        words = ["create", project, "--key", key]
    status = trial.installation.kixo("key", *words, environment=shim).returncode
    if status < 0:
        trial.note(f"SIGKILL kixo key {words[0]}")
    elif status:
        trial.broken.append(f"`kixo key {words[0]}` ended with status {status}.")
    keys[key] = wanted if status == 0 else EITHER


def _check(trial: Trial, keys: dict[str, str]) -> None:
    project = trial.installation.credentials[0].project_id
    wanted = {LIVE: {200}, REVOKED: {401}, EITHER: {200, 401}}
    for key, state in keys.items():
        with Caller(trial.installation.port, Credential(project, key)) as caller:
            if not trial.installation.wait_until(lambda: caller.ask().status in wanted[state], IN_FORCE_S_MAX):  # noqa: B023
                trial.broken.append(f"A key that is {state} is answered otherwise.")
    trial.figures["keys"] = len(keys)
