"""All day long: who keeps guests recorded, who may ask for what, and what was done.

A *keeper* holds one guest: it starts a *recorder*, a process of its own that captures, and starts it again when the
guest, libvirt or the recorder itself went away. Settings, tokens and the audit log are files of the service's state
directory. Refuses to know HTTP: that is `server`'s.
"""
