"""Object stores: how they are named, with what credentials they are opened, and what their errors say to people."""
