"""A program for two ranks of which the second alone comes upon a mistake: `python -m tests.mistaken_rank`."""

import sys

from vlrl.errors import UserError
from vlrl.training.ranks import start_ranks


def main() -> int:
    ranks = start_ranks(1)
    if not ranks.is_main:
        with ranks.following(), ranks.together():
            raise UserError("its model folder is missing")
    try:
        with ranks.leading(), ranks.together():
            pass
    except UserError as error:
        print(f"vlrl: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
