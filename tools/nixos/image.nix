# The image folder that fixture-vm boots: kernel, initramfs, root, and image.json
# that describes them. Built by mkfs.erofs from the closure, so no builder VM.
{ config, pkgs, ... }:
let
  inherit (config.system) build;
  inherit (config.boot.kernelPackages) kernel;
  # The contract that the guest program speaks, from where it is defined.
  contract = builtins.fromJSON (
    builtins.head (
      builtins.elemAt (builtins.split "pub const VERSION: u32 = ([0-9]+);" (builtins.readFile ../../crates/fixture/src/contract/mod.rs)) 1
    )
  );
  closure = pkgs.closureInfo { rootPaths = [ build.toplevel ]; };
in
{
  system.build.fixtureGuest =
    pkgs.runCommand "fixture-guest-nixos"
      {
        nativeBuildInputs = [
          pkgs.binutils
          pkgs.erofs-utils
          pkgs.jq
        ];
        # The image is whole in itself: it refers to nothing of the store.
        __structuredAttrs = true;
        unsafeDiscardReferences.out = true;
        descriptor = builtins.toJSON {
          inherit contract;
          kind = "nixos";
          cmdline = "init=${build.toplevel}/init ${toString config.boot.kernelParams}";
        };
      }
      ''
        bash ${./make-image} $out ${kernel.dev}/vmlinux ${build.initialRamdisk}/initrd \
          ${closure}/store-paths ${config.fixtureGuest.storeLabel} "$descriptor"
      '';
}
