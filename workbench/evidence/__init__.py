"""What is handed over: reports that another analyst can run again and get the same, byte for byte.

A report is a template notebook, run on a case with its parameters and made a page without scripts. The page says of
itself, for machines, what it was made of; `verifying` runs the template again and names what differs. Refuses to run
anything that stands in a report: only templates that are named.
"""
