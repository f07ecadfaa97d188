"""The handshake of two agents: control, receipt and thank-you files, the sender's side, and the arrival monitor."""
