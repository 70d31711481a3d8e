# fixture-vm with QEMU and this flake's guest at hand: what `nix run` starts.
{
  pkgs,
  fixture-vm,
  guestImage,
}:
pkgs.writeShellApplication {
  name = "fixture-vm";
  runtimeInputs = [
    fixture-vm
    pkgs.qemu_kvm
  ];
  text = ''
    export FIXTURE_VM_NIXOS_IMAGE=${guestImage}
    exec fixture-vm "$@"
  '';
}
