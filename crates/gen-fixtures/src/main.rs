//! The guest program: PID 1 of the Debian guest, a unit of the NixOS guest.
fn main() {}
