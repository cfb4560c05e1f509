import a

a.run()
