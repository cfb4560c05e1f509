"""The words of the project as types: frozen, without I/O, importing nothing of ours from outside this room."""
