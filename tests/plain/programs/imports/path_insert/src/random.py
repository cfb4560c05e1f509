WHO = "mine in src"
