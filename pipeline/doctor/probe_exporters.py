"""Prints which exporters can be used here, and with what: `python -m pipeline.doctor.probe_exporters`."""

import json

from pipeline import exporters
from pipeline.errors import BackendUnavailable

if __name__ == "__main__":
    versions, unavailable = {}, {}
    for name in exporters.NAMES:
        try:
            versions[name] = exporters.get(name).versions()
        except BackendUnavailable as error:
            unavailable[name] = ". ".join(str(error).splitlines())
    print(json.dumps({"versions": versions, "unavailable": unavailable}))
