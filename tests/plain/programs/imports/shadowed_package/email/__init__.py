WHO = "mine"
