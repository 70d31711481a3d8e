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
    # Where Nix is, its guest is the default; any other can be named.
    if [ "''${1-}" = run ] && [[ " $* " != *" --guest"* ]]; then
      set -- "$@" --guest nixos
    fi
    exec fixture-vm "$@"
  '';
}
