"""The REST service's face: HTTP, and nothing else.

Every act is `service.hub`'s; here it gets a path, a body that is checked, and a status. Refuses to decide anything.
"""
