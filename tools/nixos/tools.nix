# The real tools of a scene, each by its absolute path: a unit's PATH that lacks
# one is found when the image is built, not in the middle of a run.
{ lib, pkgs, ... }:
let
  packages = {
    inherit (pkgs)
      ethtool
      firecracker
      iproute2
      linuxptp
      lldpd
      lz4
      zstd
      ;
    dumpcap = pkgs.wireshark-cli;
    qemu = pkgs.qemu_test;
  };
  from = package: names: lib.genAttrs names (name: "${lib.getBin package}/bin/${name}");
in
{
  fixtureGuest.tools =
    from packages.iproute2 [
      "ip"
      "tc"
      "bridge"
    ]
    // from packages.lldpd [
      "lldpd"
      "lldpctl"
      "lldpcli"
    ]
    // from packages.linuxptp [
      "ptp4l"
      "pmc"
    ]
    // from packages.ethtool [ "ethtool" ]
    // from packages.dumpcap [ "dumpcap" ]
    // from packages.firecracker [ "firecracker" ]
    // from packages.qemu [ "qemu-system-x86_64" ]
    # What microVMs are saved to may be packed.
    // from packages.lz4 [ "lz4" ]
    // from packages.zstd [ "zstd" ];

  # lldpd gives up its privileges to this user and waits in its empty folder.
  users.users._lldpd = {
    isSystemUser = true;
    group = "_lldpd";
    description = "lldpd";
    home = "/run/lldpd";
  };
  users.groups._lldpd = { };
  systemd.tmpfiles.rules = [ "d /run/lldpd 0755 root root -" ];
}
