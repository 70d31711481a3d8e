# What one needs to work on fixture-vm.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.cargo
    pkgs.cargo-deny
    pkgs.cargo-nextest
    pkgs.clippy
    pkgs.deadnix
    pkgs.nixfmt
    pkgs.qemu_kvm
    pkgs.rustc
    pkgs.rustfmt
    pkgs.shellcheck
    pkgs.wireshark-cli
    pkgs.zizmor
  ];
}
