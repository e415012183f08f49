"""`python -m fuzz [libFuzzer's flags] FOLDER`: tries inputs that reach new code, and keeps them in FOLDER.

It begins with the seeds, and ends with a sentence for the first input that breaks a promise, which it leaves in a file.
"""

import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["kixo.decode", "kixo.depth", "kixo.inflate", "kixo.ingest", "kixo.timestamp"]):
    from fuzz.target import make_ingest, try_one

from fuzz.mutation import mutate

HERE = Path(__file__).parent
FLAGS = (f"-dict={HERE / 'json.dict'}", "-max_len=100000", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1")


def main() -> None:
    """Runs until the flags say that it is enough."""
    ingest = make_ingest()

    def mutated(data: bytes, length_max: int, seed: int) -> bytes:
        dice = Random(seed)
        return mutate(data, length_max, dice) if dice.random() < 0.7 else atheris.Mutate(data, length_max)

    def test_one(data: bytes) -> None:
        try_one(ingest, data)

    arguments = [sys.argv[0], *FLAGS, *sys.argv[1:], str(HERE / "seeds")]
    atheris.Setup(arguments, test_one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
