"""Items on the workers of a Dask cluster."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from socket import create_connection
from typing import TYPE_CHECKING, Any, TypeVar

from napari_deqmd.core.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

_Shared = TypeVar("_Shared")
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")

# Seconds that a scheduler, and its first worker, may take to answer.
_PATIENCE = 5
# Items in the cluster's hands for each of its threads: one in work, and the next one there when it ends.
_AHEAD = 2
# Items are images: Dask would warn of everything beyond 10 MB that comes with a task.
_SETTINGS = {"distributed.admin.large-graph-warning-threshold": "1TB"}


def gather(
    scheduler: str,
    function: Callable[[_Shared, _Item], _Outcome],
    shared: _Shared,
    items: Iterable[_Item],
) -> Generator[tuple[int, _Outcome], None, None]:
    """Apply a function to items on the workers of a cluster, and yield what comes of them as it is there.

    An item whose worker is lost is given to another one. Closing the generator cancels what is not done.

    Parameters
    ----------
    scheduler : str
        Address of a Dask scheduler, or the path of the file that it writes.
    function : callable
        Called with `shared` and an item.
    shared : object
        Goes along with every item, so that no loss of a worker loses it.
    items : iterable
        Taken from as workers have time.

    Yields
    ------
    tuple of int and object
        Place of the item, and what the function returned.

    Raises
    ------
    UserError
        There is no such scheduler, it has no workers, or these cannot run the function, which may raise one too.
    """
    try:
        import dask
        from distributed import as_completed
    except ImportError:
        raise UserError(
            "A scheduler needs Dask's distributed, which is not installed: pip install napari-deqmd[dask]."
        ) from None
    with dask.config.set(_SETTINGS), closing(_connected(scheduler)) as client:
        waiting = enumerate(items)
        places: dict[Any, int] = {}

        def submitted(count: int) -> list[Any]:
            futures = []
            for place, item in islice(waiting, count):
                future = client.submit(function, shared, item, pure=False)
                places[future] = place
                futures.append(future)
            return futures

        threads = sum(client.nthreads().values())
        try:
            running = as_completed(submitted(_AHEAD * threads), loop=client.loop)
            for future in running:
                outcome = _outcome(future)
                place = places.pop(future)
                running.update(submitted(1))
                yield place, outcome
        finally:
            client.cancel(list(places), force=True)


def _connected(scheduler: str) -> Client:
    """Connect to a scheduler that has workers."""
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    address = _address(scheduler)
    try:
        if address.startswith(("tcp://", "tls://")):
            # A client that reaches nobody takes long to say so, and does not go in peace.
            create_connection(get_address_host_port(address), _PATIENCE).close()
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No Dask scheduler answers at {address}: start one (dask scheduler), or correct the address."
        ) from error
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        client.close()
        raise UserError(
            f"The Dask scheduler at {address} has no workers: start some (dask worker {address})."
        ) from error
    return client


def _address(scheduler: str) -> str:
    """Return an address as it is, that of the file which a scheduler writes, or one without its protocol."""
    try:
        scheduler = os.fspath(scheduler)
        if "://" in scheduler:
            return scheduler
        return str(json.loads(Path(scheduler).expanduser().read_text(encoding="utf-8"))["address"])
    except FileNotFoundError:
        if re.fullmatch(r"[^/]+:\d+", scheduler):
            return f"tcp://{scheduler}"
        raise UserError(
            f"There is no scheduler file {scheduler}: give one, or an address such as tcp://localhost:8786."
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{scheduler} is no file of a Dask scheduler: give one, or its address.") from error


def _outcome(future: Any) -> Any:
    """Return what a worker made of an item."""
    from distributed import KilledWorker

    try:
        return future.result()
    except ImportError as error:
        raise UserError(
            f"A worker of the cluster cannot run this ({error}): install the same napari-deqmd there."
        ) from error
    except UserError as error:
        raise UserError(f"A worker of the cluster says: {error}") from error
    except KilledWorker as error:
        raise UserError(
            "Worker after worker was lost over one image: give the workers more memory, or choose smaller tiles."
        ) from error
