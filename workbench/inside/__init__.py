"""The inside room: commands and files in a guest that runs, by its agent or its serial console."""
