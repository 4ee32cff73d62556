"""A case that a service has, from afar: the same `Case`, read over HTTP, and acted on by the service.

Refuses to touch a guest itself: what is done to one is asked of the service, which knows who may.
"""

from workbench.remote.case import RemoteCase, open_case
from workbench.remote.clone import RemoteClone
from workbench.remote.recording import RemoteRecording

__all__ = ["RemoteCase", "RemoteClone", "RemoteRecording", "connect", "open_case"]

connect = RemoteCase.connect
