"""`python -m vlrl.doctor PROBE`: one probe, its finding as one line of JSON."""

import json
import sys
from dataclasses import asdict

from vlrl.doctor import engines, packages, resources, sandbox
from vlrl.doctor.examine import MARK

if __name__ == "__main__":
    name = sys.argv[1]
    looks = {**packages.LOOKS, **engines.LOOKS, **sandbox.LOOKS, **resources.LOOKS}
    finding = looks[name]()
    print(f"\n{MARK}{json.dumps(asdict(finding))}", flush=True)
