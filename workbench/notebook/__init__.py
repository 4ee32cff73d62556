"""What an analyst sees and touches in JupyterLab: widgets, pictures of our objects, magics.

A front end: knows `workbench.case` and the vocabulary, holds no domain logic of its own. Whatever a guest or a
stranger's case made is inert here: `text.inert` escapes it, and a page gets it as text nodes. Refuses to ask anything
of the network.
"""
