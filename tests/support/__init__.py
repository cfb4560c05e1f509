"""What the tests over real HTTP share: a server process, a client, archives, raw exchanges."""
