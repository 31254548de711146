"""One measurement of one pool; prints as JSON what it found, or why it found nothing.

Not by its status and standard error: workers that lose their parent have something to say there too.
"""

import json
import os
import sys

# Ray reports to its makers otherwise; its warnings go where nobody reads them.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from harness.pools import contenders, measurements, rows


def main(name: str, row: str, sizes: rows.Sizes) -> dict[str, object]:
    """Measure; return the values, or why there are none."""
    try:
        if row in measurements.STARTS:
            return {"values": measurements.STARTS[row](name)}
        contenders.prepare(name)
        pool = contenders.make(name, rows.WORKERS)
        return {"values": measurements.ON_A_POOL[row](pool, sizes)}
    except contenders.NoSuchPool as reason:
        return {"missing": str(reason)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], rows.Sizes(**json.loads(sys.argv[3])))), flush=True)
    # Some pools would wait for a million calls now; the harness ends whatever this leaves behind.
    os._exit(0)
