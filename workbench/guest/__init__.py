"""The guest room: everything that talks to a live virtual machine, and nothing that stores or chooses."""
