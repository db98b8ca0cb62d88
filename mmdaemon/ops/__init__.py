"""What people and machines see of a running daemon: control socket, status, metrics, logs."""
