print('marked')
1 / 0
