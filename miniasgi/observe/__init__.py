"""What can be seen of a server from outside. It may import `protocol`; `protocol` never imports it."""
