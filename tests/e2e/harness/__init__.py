"""What the end-to-end tests share: the program under test, its peers, and the means to look at what came out."""
