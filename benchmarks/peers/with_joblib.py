"""joblib: a fan-out in two threads or two loky processes. It has no graph, so there is no chain."""

from joblib import Parallel, delayed
from work import identity, main


def fan_in(backend):
    def fan(count):
        return lambda: Parallel(n_jobs=2, backend=backend)(delayed(identity)(number) for number in range(count))

    return fan


main("joblib", {"threads": {"fan": fan_in("threading")}, "processes": {"fan": fan_in("loky")}})
