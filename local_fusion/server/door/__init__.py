"""How requests come in: the socket, who asks, how much, in which order, and how answers stream out."""
