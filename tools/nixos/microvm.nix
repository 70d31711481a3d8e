# What microVMs are made of in this guest: a kernel that a VMM starts, and modules
# in the order in which they go in. Firecracker runs them, or QEMU where it cannot.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config.boot.kernelPackages) kernel;
  # Modules with all that they need, in a folder with their order.
  modules =
    names:
    pkgs.makeModulesClosure {
      kernel = config.system.modulesTree;
      firmware = [ ];
      rootModules = names;
      allowMissing = false;
    };
  folders = lib.mapAttrs (_: modules) {
    # The guest's own: its KVM. Which of the two fits the CPU is found by trying.
    microvm = [
      "kvm-amd"
      "kvm-intel"
    ];
    # A microVM's: its devices, the agent's channel of either VMM, the store.
    microvm-node = [
      "virtio_mmio"
      "virtio_console"
      "vmw_vsock_virtio_transport"
      "virtio_blk"
      "virtio_net"
      "erofs"
      "8021q"
    ];
  };
in
{
  fixtureGuest.microvm =
    pkgs.runCommand "fixture-microvm"
      {
        nativeBuildInputs = [
          pkgs.binutils
          pkgs.xz
        ];
        # The kernel names what it was built with, which the guest has no need of.
        __structuredAttrs = true;
        unsafeDiscardReferences.out = true;
        inherit folders;
      }
      ''
        mkdir $out
        strip --strip-debug ${kernel.dev}/vmlinux -o $out/vmlinux
        for folder in "''${!folders[@]}"; do
          mkdir "$out/$folder"
          while read -r module; do
            name=$(basename "$module" .xz)
            case $module in
            *.xz) xz --decompress --stdout "$module" >"$out/$folder/$name" ;;
            *) cp "$module" "$out/$folder/$name" ;;
            esac
            echo "$name" >>"$out/$folder/order"
          done <"''${folders[$folder]}/insmod-list"
        done
      '';
}
